// Say in words what is pointed at; with the keyboard, up and down choose a day, left and right walk through it.
const told = document.getElementById("told");
const rows = [...document.querySelectorAll("#chart svg")];
const usual = told.textContent;

const textOf = (item) => item.querySelector("title")?.textContent ?? "";

// What can be told of a row, from left to right.
function itemsOf(row) {
  return [...row.querySelectorAll(".s, .p, .change, .now")]
    .filter(textOf)
    .map((item) => ({ item, at: (item.x ?? item.x1).baseVal.value }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);
}

const places = new Map();

function show(row, place) {
  const items = itemsOf(row);
  document.querySelector("#chart .here")?.classList.remove("here");
  const item = items[place];
  places.set(row, item ? place : -1);
  item?.classList.add("here");
  const text = item ? textOf(item) : row.dataset.told;
  told.textContent = text;
  row.setAttribute("aria-valuenow", item ? place + 1 : 0);
  row.setAttribute("aria-valuemax", items.length);
  row.setAttribute("aria-valuetext", text);
}

function choose(row) {
  rows.forEach((one) => one.setAttribute("tabindex", one === row ? 0 : -1));
  row.focus();
}

rows.forEach((row, number) => {
  row.dataset.told = row.getAttribute("aria-label");
  row.setAttribute("role", "slider");
  row.setAttribute("aria-label", row.closest("tr").querySelector("th").textContent.trim());
  row.setAttribute("aria-valuemin", 0);
  row.setAttribute("tabindex", number ? -1 : 0);
  show(row, -1);
  row.addEventListener("focus", () => show(row, places.get(row)));
  row.addEventListener("blur", () => document.querySelector("#chart .here")?.classList.remove("here"));
  row.addEventListener("keydown", (event) => {
    const last = itemsOf(row).length - 1;
    const place = places.get(row);
    const moves = { ArrowRight: Math.min(place + 1, last), ArrowLeft: Math.max(place - 1, -1), Home: 0, End: last };
    if (event.key in moves) show(row, moves[event.key]);
    else if (event.key === "ArrowDown") choose(rows[Math.min(number + 1, rows.length - 1)]);
    else if (event.key === "ArrowUp") choose(rows[Math.max(number - 1, 0)]);
    else return;
    event.preventDefault();
  });
});
told.textContent = usual;

document.getElementById("chart").addEventListener("mouseover", (event) => {
  const text = textOf(event.target) || event.target.closest("svg")?.dataset.told;
  if (text) told.textContent = text;
});

// Back to the list as it was left.
document.getElementById("back").search = sessionStorage.getItem("list") ?? "";
