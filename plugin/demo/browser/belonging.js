// Results belong to the pictures they were asked for (see belonging.py). Gradio puts an answer on the page when it
// comes and a picture when it is chosen, in whatever order; this looks at both before anything is painted, and hides
// the results that are about other pictures than those that are shown.
(() => {
  const slots = { "adc-one": ["adc-good", "adc-more", "adc-part"], "adc-many": ["adc-goods", "adc-parts", "adc-tree"] };

  // As belonging.py's `mark`.
  const mark = (text) => {
    let a = 0x811c9dc5, b = 0x9747b28c;
    for (let index = 0; index < text.length; index++) {
      a = Math.imul(a ^ text.charCodeAt(index), 0x01000193);
      b = Math.imul(b ^ text.charCodeAt(index), 0x5bd1e995);
      b ^= b >>> 15;
    }
    return (a >>> 0).toString(16) + "-" + (b >>> 0).toString(16);
  };

  const picture = (address) =>
    (address.split("/file=")[1] || "").replace(/\.[^./]*$/, "").replace(/\/shown\/(?=[^/]*$)/, "/");

  const shown = (slot) =>
    [...document.querySelectorAll(`#${slot} img[src], #${slot} a[href]`)]
      .map((one) => picture(one.getAttribute(one.tagName === "IMG" ? "src" : "href")))
      .join("\n");

  const look = () => {
    for (const [place, names] of Object.entries(slots)) {
      const results = document.getElementById(place);
      const about = results ? results.querySelectorAll("[data-about]") : [];
      const now = about.length ? mark(names.map(shown).join("\n\n")) : "";
      if (results) results.classList.toggle("adc-stale", [...about].some((one) => one.dataset.about !== now));
    }
  };

  new MutationObserver(look).observe(document.documentElement, {
    subtree: true, childList: true, attributes: true, attributeFilter: ["src", "href", "data-about"],
  });
})();
