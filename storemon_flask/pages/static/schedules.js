// Runs renew themselves, and the next ones are told in the reader's own time.
import { keepFresh } from "./renew.js";

// As the server writes instants: Mon 2026-11-30 17:30, whatever the browser's language. Swedish writes numbers so.
const numbers = { year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit" };

function local(date) {
  const [weekday, zone] = ["weekday", "timeZoneName"].map(
    (name) => new Intl.DateTimeFormat("en", { [name]: "short" }).formatToParts(date).find((part) => part.type === name).value
  );
  return `${weekday} ${date.toLocaleString("sv", numbers)} ${zone}`;
}

function tellReader(page) {
  for (const time of page.querySelectorAll("time[data-reader]")) {
    time.title = time.textContent;
    time.textContent = `your time: ${local(new Date(time.dateTime))}`;
  }
}

tellReader(document);
keepFresh({ every: 5000, what: "The page", refuge: "main", prepare: tellReader });
