// What is wrong renews itself; what somebody fills in stays.
import { keepFresh } from "./renew.js";

keepFresh({ every: 15000, what: "The page", refuge: "main", unseen: true });
