// Runs renew themselves, and the next ones are told in the reader's own time.
import { keepFresh } from "./renew.js";

const form = { weekday: "short", year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", timeZoneName: "short" };

function tellReader(page) {
  for (const time of page.querySelectorAll("time[data-reader]")) {
    time.title = time.textContent;
    time.textContent = `your time: ${new Date(time.dateTime).toLocaleString(undefined, form)}`;
  }
}

tellReader(document);
keepFresh({ every: 5000, what: "The page", refuge: "main", prepare: tellReader });
