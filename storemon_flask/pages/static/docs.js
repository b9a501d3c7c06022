// Sends the calls of the page and shows what comes back. The key is read from its field when a call is sent; nothing keeps it.
"use strict";

document.documentElement.classList.add("scripted");

// A longer answer would only make the page slow.
const LONGEST_SHOWN = 200000;
const key = document.getElementById("key");

function quoted(text) {
  return /^[A-Za-z0-9_@%+=:,.\/-]+$/.test(text) ? text : "'" + text.replaceAll("'", "'\\''") + "'";
}

// What the form asks for: address, headers, body, and the words of the same call with curl.
function callOf(form) {
  const method = form.dataset.method;
  const query = new URLSearchParams();
  let path = form.dataset.path;
  for (const field of form.querySelectorAll("[data-in]")) {
    const values = field.multiple ? [...field.selectedOptions].map((option) => option.value) : [field.value];
    if (field.dataset.in === "path") {
      // What means a folder would be folded away.
      const value = /^~*\.\.?$/.test(field.value) ? "~" + field.value : field.value;
      path = path.replace("{" + field.name + "}", () => encodeURIComponent(value));
    } else {
      values.filter((value) => value !== "").forEach((value) => query.append(field.name, value));
    }
  }
  const address = path + (query.size ? "?" + query : "");
  const headers = {};
  const curl = ["curl"];
  let body;
  const type = form.querySelector(".type");
  if (type) {
    const file = form.querySelector(".file");
    const text = form.querySelector(".body").value;
    const chosen = [...file.files];
    if (type.value.startsWith("multipart/")) {
      body = new FormData();
      chosen.forEach((one) => body.append("file", one));
      (chosen.length ? chosen.map((one) => one.name) : ["FILE"]).forEach((name) => curl.push("-F", quoted("file=@" + name)));
    } else if (type.selectedOptions[0].dataset.file === "true") {
      headers["Content-Type"] = type.value;
      body = chosen[0];
      curl.push("--data-binary", quoted("@" + (chosen.length ? chosen[0].name : "FILE")));
    } else if (text.trim() !== "") {
      headers["Content-Type"] = type.value;
      body = text;
      curl.push("--data-binary", quoted(text));
    }
  }
  if (headers["Content-Type"]) {
    curl.push("-H", quoted("Content-Type: " + headers["Content-Type"]));
  }
  if (key.value) {
    headers["Authorization"] = "Bearer " + key.value;
    curl.push("-H", '"Authorization: Bearer $KEY"');
  }
  if (method !== (body === undefined && curl.indexOf("-F") < 0 && curl.indexOf("--data-binary") < 0 ? "GET" : "POST")) {
    curl.splice(1, 0, "-X", method);
  }
  curl.push(quoted(location.origin + address));
  return { method, address, headers, body, curl: curl.join(" ") };
}

function showCurl(form) {
  form.querySelector(".curl").textContent = callOf(form).curl;
}

function shown(text, type) {
  if (type.includes("json") && text.length <= LONGEST_SHOWN) {
    try {
      return JSON.stringify(JSON.parse(text), null, 2);
    } catch {
      return text;
    }
  }
  const more = text.length - LONGEST_SHOWN;
  return more > 0 ? text.slice(0, LONGEST_SHOWN) + "\n... and " + more.toLocaleString("en") + " more characters" : text;
}

async function send(form) {
  const { method, address, headers, body } = callOf(form);
  const button = form.querySelector("button[type=submit]");
  const status = form.querySelector(".status");
  const say = (name, text) => { form.querySelector(name).textContent = text; };
  button.disabled = true;
  const began = performance.now();
  try {
    const answer = await fetch(address, { method, headers, body, cache: "no-store" });
    const text = await answer.text();
    status.className = "status " + (answer.ok ? "ok" : "failed");
    say(".status", answer.status + " " + answer.statusText);
    say(".took", Math.round(performance.now() - began) + " ms");
    say(".headers", [...answer.headers].map(([name, value]) => name + ": " + value).join("\n"));
    say(".text", shown(text, answer.headers.get("Content-Type") || "") || "(no body)");
  } catch (error) {
    status.className = "status failed";
    say(".status", "No answer");
    say(".took", "");
    say(".headers", "");
    say(".text", String(error.message || error));
  }
  form.querySelector(".answer").hidden = false;
  button.disabled = false;
  button.focus();
}

const forms = document.querySelectorAll("form[data-path]");

for (const form of forms) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(form);
  });
  form.addEventListener("input", () => showCurl(form));
  const type = form.querySelector(".type");
  if (type) {
    const choose = () => {
      const option = type.selectedOptions[0];
      const file = option.dataset.file === "true";
      form.querySelector(".file").hidden = !file;
      form.querySelector(".body").hidden = file;
      form.querySelector(".body").value = option.dataset.example;
      showCurl(form);
    };
    type.addEventListener("change", choose);
    choose();
  }
  form.querySelector(".copy").addEventListener("click", async (event) => {
    const line = form.querySelector(".curl");
    try {
      await navigator.clipboard.writeText(line.textContent);
      event.target.textContent = "Copied";
    } catch {
      // Not over plain http to another machine: then it is selected, to be copied by hand.
      getSelection().selectAllChildren(line);
    }
  });
  showCurl(form);
}

key.form.addEventListener("submit", (event) => event.preventDefault());
key.addEventListener("input", () => forms.forEach(showCurl));

// An address may name a call: it is opened.
function openNamed() {
  const named = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (named && named.matches("details")) {
    named.open = true;
  }
}
addEventListener("hashchange", openNamed);
openNamed();
