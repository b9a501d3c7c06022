// The overview renews itself; while it is being computed the page asks every second whether it is ready.
import { keepFresh } from "./renew.js";

if (document.getElementById("computing")) setTimeout(() => location.reload(), 1000);
else keepFresh({ every: 60000, what: "The overview", refuge: "main", another: (page) => !page.getElementById("groups") });
