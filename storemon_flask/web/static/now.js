// The list renews itself: the same address is fetched again and what changed is put in its place. Scroll, focus and filters stay.
import { clock, tellAges, tellGone } from "./app.js";

const EVERY = 15000;
// Newer numbers are on their way, or the server has gone.
const SOON = 3000;
// A server that takes the question and says nothing counts as gone.
const PATIENCE = 20000;

const form = document.getElementById("filter");
let timer;
let asked = 0;
let tag = null;
let heardAt = Date.now();

// How this server is reached, which a proxy may hide from it.
function tellOrigin(page) {
  const origin = page.getElementById("origin");
  if (origin) origin.textContent = `${location.origin}/`;
}

// Put what the new page has into the place of what is here. Nodes that did not change stay as they are.
function renew(fresh) {
  tellOrigin(fresh);
  const focused = document.activeElement?.closest("[data-key]")?.dataset.key;
  const [left, top] = [scrollX, scrollY];
  for (const here of document.querySelectorAll("[data-live]")) {
    const there = fresh.getElementById(here.id);
    if (!there) continue;
    here.toggleAttribute("data-updating", there.hasAttribute("data-updating"));
    for (const note of here.querySelectorAll(".ago")) note.remove();
    if (here.innerHTML === there.innerHTML) continue;
    here.replaceChildren(...document.adoptNode(there).childNodes);
  }
  document.title = fresh.title;
  tellAges();
  if (focused && !document.activeElement?.closest("[data-key]")) {
    document.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }
  scrollTo(left, top);
}

async function refresh(address = location.href) {
  clearTimeout(timer);
  const mine = ++asked;
  let soon = false;
  try {
    const answer = await fetch(address, { cache: "no-cache", headers: { Accept: "text/html" }, signal: AbortSignal.timeout(PATIENCE) });
    if (mine !== asked) return;
    if (answer.ok) {
      tellGone();
      heardAt = Date.now();
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (mine !== asked) return;
      // The first stores have come, or the last has gone: the page is another one.
      if (Boolean(fresh.getElementById("rows")) !== Boolean(document.getElementById("rows"))) return location.reload();
      if (!tag || answer.headers.get("ETag") !== tag || address !== location.href) renew(fresh);
      tag = answer.headers.get("ETag");
      soon = Boolean(document.querySelector("[data-updating]"));
    } else if (answer.status === 401 || answer.status === 403) {
      tellGone("The server asks for a key again: reload the page.");
    } else {
      tellGone(`The list could not be renewed since ${clock(heardAt)}: the server answered ${answer.status}. It is tried again.`);
      soon = true;
    }
  } catch {
    if (mine !== asked) return;
    tellGone(`The server does not answer. What you see is from ${clock(heardAt)}; the page goes on by itself when it is back.`);
    soon = true;
  }
  timer = setTimeout(refresh, soon ? SOON : EVERY);
}

// Filters apply as they are set; without a script the button does it.
function addressOf() {
  const said = new URLSearchParams();
  for (const [name, value] of new FormData(form)) {
    if (value && !(name === "sort" && value === "worst") && !(name === "order" && value === "asc")) said.append(name, value);
  }
  return "/" + (said.size ? "?" + said : "");
}

function apply() {
  const address = addressOf();
  history.replaceState(null, "", address);
  tag = null;
  refresh(location.href);
}

if (form) {
  // A narrow page folds away what is not in use, so that stores come first.
  const more = form.querySelector(".more");
  const narrow = matchMedia("(max-width: 46rem)");
  const used = [...more.querySelectorAll("select, input")].some((one) => !["", "worst", "asc"].includes(one.value));
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
}
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh();
});
// A store's page leads back to the list as it was left.
addEventListener("pagehide", () => sessionStorage.setItem("list", location.search));
tellOrigin(document);
timer = setTimeout(refresh, document.querySelector("[data-updating]") ? SOON : EVERY);
