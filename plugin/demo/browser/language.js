// The language that was chosen above the tabs. Gradio takes the browser's when it starts; its own settings, at the
// foot of the page, change it without a reload.
(() => {
  const KEPT = "adcopilot-language";
  try {
    const chosen = localStorage.getItem(KEPT);
    if (chosen) Object.defineProperty(navigator, "language", { get: () => chosen, configurable: true });
  } catch { /* a browser that keeps nothing */ }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-language]");
    if (!button) return;
    try {
      localStorage.setItem(KEPT, button.dataset.language);
      location.reload();
    } catch { /* as above */ }
  });
})();
