"use strict";
// Marks are kept in the browser until they are saved as a file; the page itself writes nothing.
(() => {
  const cards = Array.from(document.querySelectorAll(".card[data-digest]"));
  const save = document.getElementById("save-marks");
  const count = document.getElementById("marked");
  if (!save) return;
  const marks = new Map();
  const show = () => {
    count.textContent = marks.size === 1 ? "1 picture marked" : `${marks.size} pictures marked`;
    save.disabled = marks.size === 0;
  };
  for (const card of cards) {
    if (!card.dataset.digest) continue;
    const buttons = Array.from(card.querySelectorAll(".marks button"));
    const kind = card.querySelector(".marks input");
    const mark = () => {
      const pressed = buttons.find((button) => button.getAttribute("aria-pressed") === "true");
      if (!pressed) marks.delete(card.dataset.digest);
      else {
        const good = pressed.dataset.good === "true";
        marks.set(card.dataset.digest, {
          query: card.dataset.query, digest: card.dataset.digest, good, kind: good ? "" : kind.value.trim(),
          when: new Date().toISOString(),
        });
      }
      show();
    };
    for (const button of buttons) {
      button.addEventListener("click", () => {
        const now = button.getAttribute("aria-pressed") !== "true";
        for (const other of buttons) other.setAttribute("aria-pressed", String(other === button && now));
        mark();
      });
    }
    kind.addEventListener("input", mark);
    card.querySelector(".marks").hidden = false;
  }
  save.addEventListener("click", () => {
    const lines = Array.from(marks.values(), (one) => JSON.stringify(one)).join("\n") + "\n";
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([lines], { type: "application/jsonl" }));
    link.download = "marks.jsonl";
    link.click();
    URL.revokeObjectURL(link.href);
  });
  document.getElementById("marking").hidden = false;
  show();
})();
