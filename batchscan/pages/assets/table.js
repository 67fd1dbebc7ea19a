"use strict";
// Sorts and filters the table of findings. The page is complete without it.
(() => {
  const table = document.getElementById("findings");
  const tools = document.getElementById("tools");
  if (!table || !tools) return;
  const body = table.tBodies[0];
  const text = (row, column) => row.querySelector(column).textContent.trim().toLowerCase();
  const lines = Array.from(body.rows, (row, place) => ({
    row,
    place,
    rank: Number(row.dataset.rank),
    score: Number.parseInt(text(row, ".c-score"), 10),
    path: text(row, ".path"),
    rule: text(row, ".c-rule"),
    all: null,
  }));

  const search = document.getElementById("search");
  const shown = document.getElementById("shown");
  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const onlyNew = Boolean(tools.querySelector("[name=only]:checked"));
    const off = new Set(Array.from(tools.querySelectorAll("[name=kind]:not(:checked)"), (box) => box.value));
    let count = 0;
    for (const line of lines) {
      line.all ??= line.row.textContent.toLowerCase();
      const kept =
        !off.has(line.row.dataset.kind) &&
        !(off.has("accepted") && "accepted" in line.row.dataset) &&
        !(onlyNew && !("new" in line.row.dataset)) &&
        words.every((word) => line.all.includes(word));
      line.row.hidden = !kept;
      count += kept;
    }
    shown.textContent =
      count === lines.length ? `${count.toLocaleString("en")} shown` : `${count.toLocaleString("en")} of ${lines.length.toLocaleString("en")} shown`;
  }

  function compare(key, a, b) {
    if (typeof a[key] === "string") return a[key] < b[key] ? -1 : Number(a[key] > b[key]);
    return (Number.isNaN(a[key]) ? Infinity : a[key]) - (Number.isNaN(b[key]) ? Infinity : b[key]) || 0;
  }
  const heads = Array.from(table.querySelectorAll("th[data-sort]"));
  for (const head of heads) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const sign = down ? -1 : 1;
      lines.sort((a, b) => sign * compare(head.dataset.sort, a, b) || a.place - b.place);
      body.append(...lines.map((line) => line.row));
    });
  }

  const unfold = document.getElementById("unfold");
  unfold.addEventListener("click", () => {
    const open = unfold.getAttribute("aria-pressed") !== "true";
    unfold.setAttribute("aria-pressed", String(open));
    for (const each of body.querySelectorAll("details")) each.open = open;
  });
  tools.addEventListener("submit", (event) => event.preventDefault());
  tools.addEventListener("input", filter);
  tools.hidden = false;
  filter();
})();
