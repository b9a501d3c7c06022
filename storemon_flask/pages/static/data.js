// Files dropped or chosen are sent with their progress shown; the server's page then says what became of them.
// Without this script the form sends them by itself.
"use strict";

const form = document.getElementById("drop");
const input = document.getElementById("files");
const sending = form.querySelector(".sending");
const bar = sending.querySelector("progress");
const said = sending.querySelector(".said");
const refused = document.getElementById("refused");
const stop = sending.querySelector(".stop");
const buttons = form.querySelectorAll(".buttons button");
let request = null;
// Where the focus goes back to: what was pressed is disabled, or gone, while files are sent.
let pressed = null;

for (const name of ["dragenter", "dragover"]) {
  form.addEventListener(name, (event) => {
    event.preventDefault();
    event.dataTransfer.dropEffect = request ? "none" : "copy";
    form.classList.add("over");
  });
}
form.addEventListener("dragleave", (event) => {
  if (!form.contains(event.relatedTarget)) form.classList.remove("over");
});
// A file that misses the place would otherwise open in its stead.
for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());

form.addEventListener("drop", (event) => {
  event.preventDefault();
  form.classList.remove("over");
  if (request) return;
  const folder = [...event.dataTransfer.items].some((item) => item.webkitGetAsEntry?.()?.isDirectory);
  if (folder) return refuse("A folder cannot be dropped; drop the files in it, or a zip of it.");
  pressed = null;
  if (event.dataTransfer.files.length) send(event.dataTransfer.files, { check: "1" });
});

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (request || !input.files.length) return;
  pressed = event.submitter;
  send(input.files, event.submitter?.dataset ?? {});
});

stop.addEventListener("click", () => {
  pressed ??= input;
  request?.abort();
});

// `how` is what the pressed button says: `atomic` all or nothing, `check` a preview.
function send(files, how) {
  const size = [...files].reduce((sum, file) => sum + file.size, 0);
  const most = Number(form.dataset.mostMb);
  if (size > most * 1e6) return refuse(`That is ${megabytes(size)}, and at most ${most} MB are taken at once; send it in parts.`);
  refused.hidden = true;
  const body = new FormData();
  for (const file of files) body.append("file", file, file.name);
  request = new XMLHttpRequest();
  request.upload.addEventListener("progress", (event) => sent(event.loaded, event.total));
  request.upload.addEventListener("load", () => {
    // How far the load is, nobody can say from here.
    bar.removeAttribute("value");
    stop.hidden = true;
    say(`All is sent. The rows are being read${how.check ? "; nothing is stored" : " and stored"} …`);
  });
  request.addEventListener("load", () => answered(request));
  request.addEventListener("error", () => refuse("The server does not answer. Nothing is known of this load; look at the list below once it answers again."));
  request.addEventListener("abort", () => refuse("Stopped before everything was sent; nothing was changed."));
  const query = [];
  if (how.atomic) query.push("atomic=1");
  for (const name of ["days", "encoding"]) {
    const choice = form.elements[name];
    if (how.check) body.append(name, choice.value);
    else if (choice.selectedIndex) query.push(`${name}=${choice.value}`);
  }
  request.open("POST", (how.check ? form.dataset.previews : form.dataset.api) + (query.length ? `?${query.join("&")}` : ""));
  request.setRequestHeader("Accept", "application/json");
  request.send(body);
  sending.hidden = stop.hidden = false;
  for (const button of buttons) button.disabled = true;
  sent(0, size);
}

function sent(loaded, total) {
  bar.value = total ? Math.round((100 * loaded) / total) : 0;
  say(`Sending: ${megabytes(loaded)} of ${megabytes(total)}.`);
}

function answered(done) {
  // The browser has followed the answer to the preview.
  if (done.status === 200 && done.responseURL.includes(`${form.dataset.previews}/`)) return location.assign(done.responseURL);
  let found = {};
  try {
    found = JSON.parse(done.responseText);
  } catch {
    // A proxy's page, perhaps.
  }
  // Also what was refused is remembered, where there is something to remember it in; its page says why.
  if (found.load_id) return location.assign(form.dataset.loads + found.load_id);
  refuse(found.detail || `The server answered ${done.status}.`);
}

function refuse(text) {
  request = null;
  const lost = [null, document.body, pressed].includes(document.activeElement) || sending.contains(document.activeElement);
  sending.hidden = true;
  for (const button of buttons) button.disabled = false;
  if (lost) pressed?.focus();
  refused.textContent = `✕ ${text}`;
  refused.hidden = false;
}

function say(text) {
  if (said.textContent !== text) said.textContent = text;
}

function megabytes(bytes) {
  return bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

// After a reload nothing is being sent.
window.addEventListener("pageshow", () => {
  if (!request) sending.hidden = true;
});
