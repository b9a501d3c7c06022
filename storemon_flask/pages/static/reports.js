// Watches reports that are on their way: their progress, and what came of them. Without it the pages refresh themselves.
"use strict";

const EVERY_MS = 700;
const LONGEST_MS = 10000;
// A server that takes the question and says nothing counts as gone.
const PATIENCE_MS = 10000;

for (const place of document.querySelectorAll("[data-running]")) watch(place, place.dataset.running);

function watch(place, id) {
  const bar = place.querySelector("progress");
  let wait = EVERY_MS;
  ask();

  async function ask() {
    let found = null;
    try {
      const answer = await fetch(`/api/v1/reports/${id}`, { headers: { Accept: "application/json" }, cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
      if (answer.status === 404 || answer.status === 410) return ended();
      if (answer.ok) found = await answer.json();
    } catch {
      // The server is gone; it is asked again below.
    }
    if (found === null) {
      say("The server does not answer. It is asked again and again.");
      wait = Math.min(wait * 2, LONGEST_MS);
    } else if (found.status === "Running") {
      wait = EVERY_MS;
      const part = Math.round(found.progress * 100);
      bar.value = part;
      bar.textContent = `${part} %`;
      const shown = place.querySelector(".part");
      if (shown) shown.textContent = `${part} %`;
      tell(place.querySelector(".tries"), tries(found));
      const waits = found.started === null || found.next_try !== null;
      say(waits ? "It waits for its turn." : "It is being computed; the table comes by itself.");
    } else {
      return ended();
    }
    setTimeout(ask, wait);
  }

  function say(text) {
    const said = place.querySelector(".said");
    if (said && said.textContent !== text) said.textContent = text;
  }

  async function ended() {
    if (place.dataset.reload) return location.reload();
    // A list: only this row is renewed, for somebody may be typing above it.
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById(place.id);
      if (!fresh) return place.remove();
      const focused = place.contains(document.activeElement) && document.activeElement.className;
      place.replaceWith(document.adoptNode(fresh));
      if (focused) fresh.getElementsByClassName(focused)[0]?.focus();
    } catch {
      setTimeout(ended, LONGEST_MS);
    }
  }
}

// What went wrong before, as `tries` of _report.html says it too.
function tries(found) {
  if (found.next_try !== null) return `Try ${found.attempts} failed: ${found.last_error}. The next one is at ${clock(found.next_try)}.`;
  if (found.attempts < 2) return "";
  return `This is try ${found.attempts}${found.last_error === null ? "" : `; one before it failed: ${found.last_error}`}.`;
}

function clock(instant) {
  return `${instant.slice(0, 19).replace("T", " ")} UTC`;
}

function tell(place, text) {
  if (!place || place.textContent === text) return;
  place.textContent = text;
  place.hidden = text === "";
}

document.getElementById("error")?.focus();
