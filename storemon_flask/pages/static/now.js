// The list renews itself, and filters apply as they are set; a button does it without a script.
import { keepFresh } from "./renew.js";

const form = document.getElementById("filter");

// How this server is reached, which a proxy may hide from it.
function tellOrigin(page) {
  const origin = page.getElementById("origin");
  if (origin) origin.textContent = `${location.origin}/`;
}

tellOrigin(document);
const refresh = keepFresh({
  every: 15000,
  what: "The list",
  refuge: "total",
  // The title says how many are down, also in a tab that is not looked at.
  unseen: true,
  prepare: tellOrigin,
  // The first stores have come, or the last has gone: the page is another one.
  another: (page) => Boolean(page.getElementById("rows")) !== Boolean(document.getElementById("rows")),
});

const defaults = { sort: "worst", order: "asc", below_window: "last_week" };

function addressOf() {
  const said = new URLSearchParams();
  const data = new FormData(form);
  // Without a percentage its window says nothing.
  if (!data.get("below")) data.delete("below_window");
  for (const [name, value] of data) {
    if (value && value !== defaults[name]) said.append(name, value);
  }
  return "/" + (said.size ? "?" + said : "");
}

function apply() {
  if (!form.checkValidity()) return;
  const address = addressOf();
  history.replaceState(null, "", address);
  refresh();
}

if (form) {
  // A narrow page folds away what is not in use, so that stores come first.
  const more = form.querySelector(".more");
  const narrow = matchMedia("(max-width: 46rem)");
  const used = [...more.querySelectorAll("select, input")].some((one) => one.value && one.value !== defaults[one.name]);
  const fold = () => (more.open = !narrow.matches || used);
  narrow.addEventListener("change", fold);
  fold();

  let typing;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(typing);
    apply();
  });
  form.addEventListener("input", (event) => {
    clearTimeout(typing);
    typing = setTimeout(apply, event.target.tagName === "INPUT" ? 250 : 0);
  });
  // Somebody was faster than this script.
  const { q } = form.elements;
  if (q.value !== q.defaultValue) apply();
}
