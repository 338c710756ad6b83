"use strict";
// Sorts a table by the column whose header was pressed; numbers as numbers, ties as they were.
for (const table of document.querySelectorAll("table.sortable")) {
  const headers = [...table.tHead.rows[0].cells];
  const key = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  for (const [column, header] of headers.entries()) {
    header.querySelector("button")?.addEventListener("click", () => {
      const down = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const each of headers) if (each.hasAttribute("aria-sort")) each.setAttribute("aria-sort", "none");
      header.setAttribute("aria-sort", down > 0 ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows].map((row) => [key(row, column), row]);
      const numeric = rows.every(([value]) => value !== "" && !Number.isNaN(Number(value)));
      rows.sort(([a], [b]) => down * (numeric ? a - b : a.localeCompare(b, undefined, { numeric: true })));
      table.tBodies[0].append(...rows.map(([, row]) => row));
    });
  }
}
// Shows of a list of indented lines those that hold what is typed, and the lines that they are under.
for (const label of document.querySelectorAll("label.filter")) {
  const lines = [...document.getElementById(label.dataset.lines).querySelectorAll(".line")];
  const indent = (line) => line.textContent.search(/\S/);
  label.hidden = false;
  label.querySelector("input").addEventListener("input", (event) => {
    const wanted = event.target.value.trim().toLowerCase();
    let under = 0; // the indent of the last line that is shown, from below
    for (const line of lines.toReversed()) {
      const found = line.textContent.toLowerCase().includes(wanted);
      line.hidden = !found && indent(line) >= under;
      if (!line.hidden) under = indent(line);
    }
  });
}
// What scrolls is reached by keyboard; what does not is no stop on the way.
const stops = [...document.querySelectorAll(".scroll, pre")];
const mark = () => {
  for (const each of stops) {
    const scrolls = each.scrollWidth > each.clientWidth || each.scrollHeight > each.clientHeight;
    if (scrolls) each.tabIndex = 0;
    else each.removeAttribute("tabindex");
  }
};
addEventListener("resize", mark);
mark();
// Paper shows all.
addEventListener("beforeprint", () => {
  for (const each of document.querySelectorAll("details")) each.open = true;
});
