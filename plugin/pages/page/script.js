"use strict";
(() => {
  const all = (selector, within = document) => Array.from(within.querySelectorAll(selector));

  // A click on a column's head sorts by it, numbers from the largest.
  for (const table of all("table")) {
    const heads = all("thead th", table);
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      const numeric = head.classList.contains("num");
      button.addEventListener("click", () => {
        const now = head.getAttribute("aria-sort");
        const down = now ? now === "ascending" : numeric;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const body = table.tBodies[0];
        const value = (row) => {
          const cell = row.cells[column];
          return numeric ? Number(cell.dataset.n ?? -1) : cell.textContent.trim();
        };
        const order = (a, b) => (numeric ? a - b : a.localeCompare(b, "en", { numeric: true }));
        const rows = Array.from(body.rows).map((row) => [value(row), row]);
        rows.sort((a, b) => (down ? order(b[0], a[0]) : order(a[0], b[0])));
        body.append(...rows.map((pair) => pair[1]));
      });
    });
  }

  const filters = document.getElementById("filters");
  if (!filters) return;
  const selects = all("select", filters);
  const text = document.getElementById("by-text");
  const boxes = document.getElementById("show-boxes");
  const count = document.getElementById("shown");
  const nothing = document.getElementById("nothing");
  const holder = document.getElementById("cards");
  const cards = all(".card").map((card) => ({ card, words: card.textContent.toLowerCase() }));

  const update = () => {
    const wanted = text.value.trim().toLowerCase();
    let shown = 0;
    for (const { card, words } of cards) {
      const fits =
        selects.every((select) => select.value === "" || card.dataset[select.dataset.kind] === select.value) &&
        words.includes(wanted);
      card.hidden = !fits;
      shown += fits;
    }
    count.textContent = `${shown} of ${cards.length} shown`;
    nothing.hidden = shown > 0;
    holder.classList.toggle("no-boxes", !boxes.checked);
  };

  for (const button of all(".zoom")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const wide = button.closest(".card").classList.toggle("wide");
      button.textContent = wide ? "Smaller" : "Larger";
      button.setAttribute("aria-expanded", String(wide));
    });
  }
  // Both: programs that fill in forms do not always send the two.
  for (const input of [...selects, text, boxes]) {
    for (const event of ["input", "change"]) input.addEventListener(event, update);
  }
  document.getElementById("reset").addEventListener("click", () => {
    for (const select of selects) select.value = "";
    text.value = "";
    boxes.checked = true;
    update();
  });
  filters.hidden = false;
  update();
})();
