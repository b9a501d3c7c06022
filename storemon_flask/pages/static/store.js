// Say in words what is pointed at; with the keyboard, up and down choose a day, left and right walk through it. The page renews itself.
import { keepFresh } from "./renew.js";

const chart = document.getElementById("chart");
const told = document.getElementById("told");
// By the key of a day: the place in it that was walked to (-1: the day itself), and what stood there.
const walked = new Map();
// The day that is reached by Tab, and what the sentence is about: a day's key and something in it, as `nameOf` has it.
let chosen = null;
let about = null;

const rows = () => [...chart.querySelectorAll("svg.day")];
const textOf = (item) => item.querySelector("title")?.textContent ?? "";

// What is the same thing still when the day has been drawn again.
function nameOf(item) {
  const kind = item.getAttribute("class").replace(" here", "");
  return kind === "now" ? kind : `${kind} ${item.getAttribute("x") ?? item.getAttribute("x1")}`;
}

// What can be told of a row, from left to right.
function itemsOf(row) {
  return [...row.querySelectorAll(".s, .b, .p, .change, .now")]
    .filter(textOf)
    .map((item) => ({ item, at: (item.x ?? item.x1).baseVal.value }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);
}

function tell(row, item) {
  const text = item ? textOf(item) : row.dataset.told;
  about = { key: row.dataset.key, name: item && nameOf(item) };
  if (told.textContent !== text) told.textContent = text;
  return text;
}

// Where in the row the keyboard is, as far as the row itself goes.
function mark(row, place) {
  const items = itemsOf(row);
  const item = items[place];
  walked.set(row.dataset.key, { place: item ? place : -1, name: item && nameOf(item) });
  row.setAttribute("aria-valuenow", item ? place + 1 : 0);
  row.setAttribute("aria-valuemax", items.length);
  row.setAttribute("aria-valuetext", item ? textOf(item) : row.dataset.told);
  return item;
}

function show(row, place) {
  const item = mark(row, place);
  chart.querySelector(".here")?.classList.remove("here");
  item?.classList.add("here");
  tell(row, item);
}

// Make rows that are new, at first all of them, ready for the keyboard; where one was before, it goes on.
function prepare() {
  const all = rows();
  if (!all.some((row) => row.dataset.key === chosen)) chosen = all[0]?.dataset.key;
  for (const row of all) {
    row.setAttribute("tabindex", row.dataset.key === chosen ? 0 : -1);
    if (row.dataset.told) continue;
    row.dataset.told = row.getAttribute("aria-label");
    row.setAttribute("role", "slider");
    row.setAttribute("aria-label", row.closest("tr").querySelector("th").textContent.trim());
    row.setAttribute("aria-valuemin", 0);
    const items = itemsOf(row);
    const before = walked.get(row.dataset.key) ?? { place: -1 };
    const same = items.findIndex((item) => nameOf(item) === before.name);
    mark(row, same >= 0 ? same : Math.min(before.place, items.length - 1));
    if (about?.key === row.dataset.key) tell(row, items.find((item) => nameOf(item) === about.name));
  }
}

chart.addEventListener("focusin", ({ target }) => {
  if (!walked.has(target.dataset.key)) return;
  chosen = target.dataset.key;
  prepare();
  show(target, walked.get(chosen).place);
});
chart.addEventListener("focusout", () => chart.querySelector(".here")?.classList.remove("here"));
chart.addEventListener("keydown", (event) => {
  const row = event.target.closest("svg.day");
  if (!row) return;
  const last = itemsOf(row).length - 1;
  const { place } = walked.get(row.dataset.key);
  const moves = { ArrowRight: Math.min(place + 1, last), ArrowLeft: Math.max(place - 1, -1), Home: 0, End: last };
  const steps = { ArrowDown: 1, ArrowUp: -1 };
  if (event.key in moves) show(row, moves[event.key]);
  else if (event.key in steps) {
    const all = rows();
    all[Math.min(Math.max(all.indexOf(row) + steps[event.key], 0), all.length - 1)].focus();
  } else return;
  event.preventDefault();
});
chart.addEventListener("mouseover", ({ target }) => {
  const row = target.closest("svg.day");
  const item = target.closest(".s, .b, .p, .change, .now");
  if (row) tell(row, item && textOf(item) ? item : null);
});

keepFresh({ every: 30000, what: "The page", refuge: "main", placed: prepare });
prepare();
