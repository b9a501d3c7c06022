// What every page may use. Pages are whole without it.
document.documentElement.classList.add("scripted");

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"]];

// "3 min ago"; nothing for a moment in the future.
export function ago(instant, now = Date.now()) {
  const seconds = Math.floor((now - instant) / 1000);
  if (!(seconds >= 0)) return "";
  const found = UNITS.find(([size]) => seconds >= size);
  return found ? `${Math.floor(seconds / found[0])} ${found[1]} ago` : "just now";
}

// Write beside every <time data-ago> how long ago it is.
export function tellAges(root = document) {
  for (const time of root.querySelectorAll("time[data-ago]")) {
    let note = time.nextElementSibling;
    if (!note?.classList.contains("ago")) {
      note = document.createElement("span");
      note.className = "ago dim";
      time.after(note);
    }
    const text = ago(Date.parse(time.dateTime));
    note.textContent = text ? ` (${text})` : "";
  }
}

// The wall clock of the reader, for messages of the page itself.
export const clock = (instant = Date.now()) => new Date(instant).toLocaleTimeString();

// Say that the server does not answer, since when; or, with no sentence, that it does again.
export function tellGone(sentence) {
  const banner = document.getElementById("gone");
  if (banner.textContent === (sentence ?? "")) return;
  banner.textContent = sentence ?? "";
  banner.hidden = !sentence;
}

// The sentence of a problem answer; something readable of any other.
export async function problemOf(answer) {
  try {
    return (await answer.json()).detail;
  } catch {
    return `the server answered ${answer.status}`;
  }
}

tellAges();
setInterval(tellAges, 30000);
