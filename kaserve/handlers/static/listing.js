
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
