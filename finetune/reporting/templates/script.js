"use strict";
// Sorts a table by the clicked column, numbers by value; the sort is stable.
for (const table of document.querySelectorAll("table.sortable")) {
  const headers = [...table.tHead.rows[0].cells];
  const key = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  for (const [column, header] of headers.entries()) {
    header.querySelector("button")?.addEventListener("click", () => {
      const down = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of headers) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
      header.setAttribute("aria-sort", down > 0 ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows].map((row) => [key(row, column), row]);
      const numeric = rows.every(([value]) => value !== "" && !Number.isNaN(Number(value)));
      rows.sort(([a], [b]) => down * (numeric ? a - b : a.localeCompare(b, undefined, { numeric: true })));
      table.tBodies[0].append(...rows.map(([, row]) => row));
    });
  }
}
// Filters indented lines by the typed text, and keeps the parents of each match.
for (const label of document.querySelectorAll("label.filter")) {
  const lines = [...document.getElementById(label.dataset.lines).querySelectorAll(".line")];
  const indent = (line) => line.textContent.search(/\S/);
  label.hidden = false;
  label.querySelector("input").addEventListener("input", (event) => {
    const wanted = event.target.value.trim().toLowerCase();
    let under = 0; // the indent of the visible line below
    for (const line of lines.toReversed()) {
      const found = line.textContent.toLowerCase().includes(wanted);
      line.hidden = !found && indent(line) >= under;
      if (!line.hidden) under = indent(line);
    }
  });
}
// Makes exactly those regions focusable that scroll, so that the keyboard reaches them.
const stops = [...document.querySelectorAll(".scroll, pre")];
const mark = () => {
  for (const stop of stops) {
    const scrolls = stop.scrollWidth > stop.clientWidth || stop.scrollHeight > stop.clientHeight;
    if (scrolls) stop.tabIndex = 0;
    else stop.removeAttribute("tabindex");
  }
};
addEventListener("resize", mark);
mark();
// Opens all collapsed parts for printing.
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
