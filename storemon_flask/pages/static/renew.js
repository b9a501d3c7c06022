// A page renews itself: its address is asked for again, and every piece of it (`data-live`, with an id) that the server now makes
// otherwise is put in place. What did not change stays as it is, and so do scroll, focus and what somebody is filling in.
import { clock, tellAges, tellGone } from "./app.js";

// The server has gone, or cannot answer now.
const SOON = 3000;
// A server that takes the question and says nothing counts as gone.
const PATIENCE = 20000;

// Each piece as the server sent it; scripts may have changed what stands there.
const sent = new Map();
let printing = false;
addEventListener("beforeprint", () => (printing = true));

function textOf(piece) {
  const bare = piece.cloneNode(true);
  for (const note of bare.querySelectorAll(".ago")) note.remove();
  return bare.innerHTML;
}

const piecesIn = (root) => [...root.querySelectorAll("[data-live]")];
const idsIn = (root) => piecesIn(root).map((one) => one.id).join(" ");

function outermost(element) {
  let found = element?.closest("[data-live]");
  for (let next = found; next; next = next.parentElement?.closest("[data-live]")) found = next;
  return found;
}

const filledIn = (piece) =>
  [...piece.querySelectorAll("input, select")].some((one) => one === document.activeElement || ("defaultValue" in one && one.value !== one.defaultValue));

// Put what the new page has into the place of what is here; false when some of it has to wait.
function put(here, there) {
  const text = textOf(there);
  if (sent.get(here.id) === text) return true;
  // Its own pieces, where they are the same ones; what stands between them does not change then.
  const inner = piecesIn(here);
  if (inner.length && idsIn(here) === idsIn(there)) {
    const parts = piecesIn(there);
    const done = inner.map((one, place) => put(one, parts[place])).every(Boolean);
    if (done) sent.set(here.id, text);
    return done;
  }
  if (filledIn(here)) return false;
  for (const part of piecesIn(there)) sent.set(part.id, textOf(part));
  sent.set(here.id, text);
  const lefts = [...here.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
  here.replaceChildren(...document.adoptNode(there).childNodes);
  [...here.querySelectorAll(".scroll")].forEach((one, place) => (one.scrollLeft = lefts[place] ?? 0));
  return true;
}

// `prepare(page)` is called with the new page, `placed()` once it is in place.
function renew(fresh, { prepare, placed, refuge }) {
  prepare(fresh);
  const focused = document.activeElement?.closest("[data-key]");
  const key = focused?.dataset.key;
  const around = outermost(focused);
  const place = around ? [...around.querySelectorAll("[data-key]")].indexOf(focused) : -1;
  const [left, top] = [scrollX, scrollY];
  let whole = true;
  for (const here of piecesIn(document)) {
    if (outermost(here) !== here) continue;
    const there = fresh.getElementById(here.id);
    if (there) whole = put(here, there) && whole;
  }
  document.title = fresh.title;
  tellAges();
  placed();
  if (focused && !focused.isConnected) {
    // What had the focus may be gone: then what stands in its place has it, or what says how much there is.
    const same = document.querySelector(`[data-key="${CSS.escape(key)}"]`) ?? around?.querySelectorAll("[data-key]")[place];
    (same ?? document.getElementById(refuge))?.focus({ preventScroll: true });
  }
  scrollTo(left, top);
  return whole;
}

// Ask every so many milliseconds, and at once when somebody looks again. `what` is renewed, by name; `unseen`: also while nobody looks;
// `refuge`: the id of what takes the focus when there is no other place for it; `another(page)`: whether it is another page altogether.
// Answers a function that asks at once, for a changed address too.
export function keepFresh({ every, what, refuge, unseen = false, prepare = () => {}, placed = () => {}, another = () => false }) {
  let timer;
  let asked = 0;
  let tag = null;
  let heardAt = Date.now();

  async function ask() {
    clearTimeout(timer);
    if (printing || (document.hidden && !unseen)) return;
    const mine = ++asked;
    let soon = false;
    try {
      const answer = await fetch(location.href, { cache: "no-cache", headers: { Accept: "text/html" }, signal: AbortSignal.timeout(PATIENCE) });
      const text = await answer.text();
      if (mine !== asked || printing) return;
      if (answer.ok) {
        tellGone();
        heardAt = Date.now();
        const now = answer.headers.get("ETag");
        if (!tag || now !== tag) {
          const fresh = new DOMParser().parseFromString(text, "text/html");
          if (another(fresh)) return location.reload();
          tag = renew(fresh, { prepare, placed, refuge }) ? now : null;
        }
      } else if (answer.status === 401 || answer.status === 403) {
        tellGone("The server asks for a key again: reload the page.");
      } else {
        tellGone(`${what} could not be renewed since ${clock(heardAt)}: the server answered ${answer.status}. It is tried again.`);
        soon = answer.status !== 404;
      }
    } catch {
      if (mine !== asked) return;
      tellGone(`The server does not answer. What you see is from ${clock(heardAt)}; the page goes on by itself when it is back.`);
      soon = true;
    }
    timer = setTimeout(ask, soon ? SOON : every);
  }

  for (const piece of piecesIn(document)) sent.set(piece.id, textOf(piece));
  // What is being printed is not changed meanwhile.
  addEventListener("afterprint", () => {
    printing = false;
    ask();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) ask();
  });
  timer = setTimeout(ask, every);
  return () => {
    tag = null;
    return ask();
  };
}
