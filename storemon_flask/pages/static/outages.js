// The page renews itself.
import { keepFresh } from "./renew.js";

keepFresh({ every: 30000, what: "The page", refuge: "main" });
