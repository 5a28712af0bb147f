
"use strict";
// The filter and the keys. Everything else works without; so what is of no use then is shown from here only.
{
  const label = document.getElementById("filter");
  const field = label.querySelector("input");
  const none = document.getElementById("none");
  const count = document.getElementById("count");
  const sum = count.textContent;
  const all = [...document.querySelectorAll("tbody tr")];
  const rows = all.filter((row) => !row.classList.contains("parent"));
  const texts = rows.map((row) => row.cells[0].querySelector("bdi").textContent.toLowerCase());
  const sortForms = [...document.querySelectorAll("th form")];

  const filter = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, at) => {
      const matches = words.every((word) => texts[at].includes(word));
      row.hidden = !matches;
      shown += matches;
    });
    none.hidden = shown > 0;
    count.textContent = words.length ? `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")}` : sum;
  };

  // The filter is kept in the fragment of the URL, so it survives a reload, another order, and a visit to a file.
  const keep = () => {
    const hash = field.value && "#" + encodeURIComponent(field.value);
    history.replaceState(null, "", location.pathname + location.search + hash);
    for (const form of sortForms) form.action = location.pathname + hash;
  };

  const restore = () => {
    try {
      field.value = decodeURIComponent(location.hash.slice(1));
    } catch {
      field.value = "";  // not of our making
    }
    for (const form of sortForms) form.action = location.pathname + location.hash;
    filter();
  };

  const links = () => all.filter((row) => !row.hidden).map((row) => row.cells[0].querySelector("a"));

  const move = (step) => {
    const shown = links();
    const at = shown.indexOf(document.activeElement);
    const next = at < 0 ? (step > 0 ? 0 : shown.length - 1) : at + step;
    if (next < 0 && !label.hidden) field.focus();
    else shown[Math.min(next, shown.length - 1)]?.focus();
  };

  const inField = {
    ArrowDown: () => move(1),
    Enter: () => rows.find((row) => !row.hidden)?.querySelector("a").click(),
    Escape: () => {
      if (!field.value) field.blur();
      field.value = "";
      filter();
      keep();
    },
  };
  const elsewhere = {
    ArrowDown: () => move(1),
    ArrowUp: () => move(-1),
    Backspace: () => document.querySelector(".parent a")?.click(),
    "/": () => field.select(),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.target !== field && event.target.matches("input, textarea, select")) return;
    const act = (event.target === field ? inField : elsewhere)[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  field.addEventListener("input", () => { filter(); keep(); });
  addEventListener("hashchange", restore);

  if (rows.length > 0) {
    label.hidden = false;
    document.getElementById("keys").hidden = false;
    restore();
  }
}
// Times: how long ago, or the local time; the exact one is in the title.
{
  const times = [...document.querySelectorAll("time")];
  const utc = document.querySelector("th small");
  const two = (number) => String(number).padStart(2, "0");

  const words = (date) => {
    const seconds = (Date.now() - date) / 1000;
    if (seconds >= 0 && seconds < 60) return "just now";
    if (seconds >= 60 && seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
    if (seconds >= 3600 && seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
    const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
    return `${day} ${two(date.getHours())}:${two(date.getMinutes())}`;
  };
  const show = () => {
    for (const time of times) time.textContent = words(new Date(time.dateTime));
  };

  // A title for each of 100,000 rows takes seconds to make, so a row gets one when it is looked at.
  document.addEventListener("pointerover", (event) => {
    const time = event.target.closest?.("tr")?.querySelector("time");
    if (!time || time.title) return;
    const exact = new Date(time.dateTime).toLocaleString(undefined, { dateStyle: "full", timeStyle: "long" });
    time.title = `${exact}\n${time.dateTime}`;
  });
  if (times.length > 0 && !Number.isNaN(new Date(times[0].dateTime).getTime())) {
    utc?.remove();
    show();
    addEventListener("visibilitychange", () => document.hidden || show());
  }
}
// Uploads: one file after the other, each with its progress. Without this the form sends all of them at once.
{
  const form = document.querySelector(".upload");
  const field = form?.querySelector("input");
  const list = document.createElement("ul");
  const cancel = document.createElement("button");
  const waiting = [];
  let running = null;
  let failed = 0;
  let stored = 0;

  const human = (size) => {
    const power = size < 1024 ? 0 : Math.min(5, Math.floor(Math.log2(size) / 10));
    return power ? `${(size / 1024 ** power).toFixed(1)} ${"KMGTP"[power - 1]}iB` : `${size} B`;
  };

  const add = (file) => {
    const item = document.createElement("li");
    const name = Object.assign(document.createElement("bdi"), { textContent: file.name });
    const state = Object.assign(document.createElement("span"), { textContent: `waiting, ${human(file.size)}` });
    const bar = Object.assign(document.createElement("progress"), { max: 1, value: 0 });
    bar.setAttribute("aria-label", file.name);
    item.append(name, state, bar);
    list.append(item);
    waiting.push({ file, item, state, bar });
  };

  const finish = ({ item, state, bar }, error) => {
    running = null;
    bar.value = 1;
    item.className = error ? "failed" : "stored";
    state.textContent = error || "stored";
    if (error) failed += 1;
    else stored += 1;
    next();
  };

  const next = () => {
    if (running) return;
    const upload = waiting.shift();
    if (upload) return send(upload);
    if (stored > 0 && failed === 0) location.reload();
    cancel.textContent = stored ? "Show the directory" : "Close";
  };

  const send = (upload) => {
    const { file, state, bar } = upload;
    const request = new XMLHttpRequest();
    running = request;
    request.upload.onprogress = ({ loaded, total }) => {
      bar.value = total ? loaded / total : 1;
      state.textContent = loaded < total ? `${human(loaded)} of ${human(total)}` : "almost done";
    };
    // The server says why in one line: "409 Conflict: there is something of this name already".
    const reason = () => request.responseText.trim().replace(/^\d+ [^:]*: /, "") || `failed (${request.status})`;
    request.onload = () => finish(upload, request.status < 300 ? "" : reason());
    request.onerror = () => finish(upload, "the connection was lost");
    request.onabort = () => finish(upload, "cancelled");
    request.open("PUT", encodeURIComponent(file.name));
    request.send(file);
  };

  const start = (files) => {
    if (!running && !waiting.length) {
      failed = stored = 0;
      list.replaceChildren();
    }
    files.forEach(add);
    cancel.textContent = "Cancel";
    if (files.length) document.querySelector(".uploads").hidden = false;
    next();
  };

  if (form) {
    const place = Object.assign(document.createElement("section"), { className: "uploads", hidden: true });
    place.setAttribute("aria-label", "Uploads");
    place.setAttribute("aria-live", "polite");
    cancel.type = "button";
    cancel.className = "button";
    place.append(list, cancel);
    form.after(place);
    form.append(Object.assign(document.createElement("span"), { className: "hint", textContent: "or drop files on this page" }));

    cancel.addEventListener("click", () => {
      if (running || waiting.length) {
        for (const upload of waiting.splice(0)) {
          failed += 1;
          upload.item.className = "failed";
          upload.state.textContent = "cancelled";
        }
        running?.abort();
      } else if (stored) {
        location.reload();
      } else {
        place.hidden = true;
      }
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      start([...field.files]);
      form.reset();
    });

    // Without a file there is nothing to send. `reset` comes before the field is empty.
    const submit = form.querySelector("button");
    const update = () => { submit.disabled = field.files.length === 0; };
    field.addEventListener("change", update);
    form.addEventListener("reset", () => { submit.disabled = true; });
    addEventListener("pageshow", update);  // a browser may restore the field when it comes back to the page
    update();

    const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
    let inside = 0;  // elements that the pointer has entered and not left: `dragleave` comes for each of them
    const mark = (change) => {
      inside = change === 0 ? 0 : inside + change;
      document.body.classList.toggle("dropping", inside > 0);
    };
    addEventListener("dragenter", (event) => hasFiles(event) && mark(1));
    addEventListener("dragleave", (event) => hasFiles(event) && mark(-1));
    addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
    addEventListener("drop", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      mark(0);
      // A directory looks like a file that cannot be read.
      const items = [...event.dataTransfer.items].filter((item) => item.kind === "file");
      const files = items.filter((item) => !item.webkitGetAsEntry?.()?.isDirectory).map((item) => item.getAsFile());
      start(files.filter(Boolean));
    });
    addEventListener("beforeunload", (event) => running && event.preventDefault());
  }
}
