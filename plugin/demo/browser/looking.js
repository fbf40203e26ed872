// Looking at pictures: names of chosen files, zoom of all pictures of an answer at once, and of "Many parts" the
// order, the filter and the enlarged view. Nothing here asks the server for anything but pictures.
(() => {
  const byId = (id) => document.getElementById(id);

  // The names of the files in upload components, as the server calls them.
  const name = () => {
    for (const place of document.querySelectorAll("[data-names-of]")) {
      const image = byId(place.dataset.namesOf)?.querySelector("img[src]");
      const file = image ? decodeURIComponent(image.getAttribute("src").split("/").pop()) : "";
      if (place.textContent !== file) place.textContent = file;
    }
  };

  // Zoom: the slider says how much, the mouse or a number of the list says where.
  const zoomTo = (share, x, y) => {
    const place = byId("adc-looked"), slider = byId("adc-zoom")?.querySelector("input[type=range]");
    place.style.setProperty("--adc-x", `${x}%`);
    place.style.setProperty("--adc-y", `${y}%`);
    if (share === null || !slider) return;
    slider.value = share;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const zoom = () => parseFloat(byId("adc-zoom")?.querySelector("input[type=range]")?.value || 1);
  const over = (event) => event.target.closest?.("#adc-looked .image-frame");
  const at = (event, frame) => {
    const box = frame.getBoundingClientRect();
    return [100 * (event.clientX - box.left) / box.width, 100 * (event.clientY - box.top) / box.height];
  };
  // A picture is shown whole in a frame of another shape: from shares of the picture to shares of the frame.
  const inFrame = (x, y) => {
    const image = document.querySelector("#adc-marked img"), frame = image.parentElement.getBoundingClientRect();
    const scale = Math.min(frame.width / image.naturalWidth, frame.height / image.naturalHeight);
    const place = (share, whole, natural) => 50 + (share - 50) * natural * scale / whole;
    return [place(x, frame.width, image.naturalWidth), place(y, frame.height, image.naturalHeight)];
  };
  document.addEventListener("input", (event) => {
    if (event.target.closest("#adc-zoom")) byId("adc-looked").style.setProperty("--adc-zoom", event.target.value);
  });
  document.addEventListener("pointermove", (event) => {
    const frame = over(event);
    if (frame && zoom() > 1) zoomTo(null, ...at(event, frame));
  });

  // The enlarged view of a part (table.py), which goes on to the next one that the table shows.
  let from = null;
  const dialogue = () => byId("adc-enlarged");
  const enlarge = (button) => {
    const found = dialogue(), row = button.closest("tr"), image = found.querySelector("img");
    from = button;
    found.querySelector(".adc-name").textContent = row.dataset.name;
    found.querySelector(".adc-of").innerHTML = row.querySelector(".adc-chip").outerHTML;
    image.classList.remove("adc-large");
    image.src = button.dataset.enlarge;
    image.alt = row.dataset.name;
    if (!found.open) found.showModal();
  };
  const step = (by) => {
    const shown = [...document.querySelectorAll("#adc-results [data-enlarge]")].filter((one) => one.checkVisibility());
    if (shown.length) enlarge(shown[(shown.indexOf(from) + by + shown.length) % shown.length]);
  };
  document.addEventListener("click", (event) => {
    if (!event.target.closest("#adc-enlarged")) return;
    const by = event.target.closest("[data-step]")?.dataset.step;
    if (event.target === dialogue() || by === "0") dialogue().close();
    else if (by) step(Number(by));
    else if (event.target.tagName === "IMG") event.target.classList.toggle("adc-large");
  });
  document.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by && event.target.closest("#adc-enlarged") && !dialogue().querySelector(".adc-large")) step(by);
  });
  document.addEventListener("close", (event) => {  // does not bubble
    if (event.target === dialogue() && from?.isConnected) from.focus();
  }, true);

  // The table: which verdicts are shown, and by what it is sorted; both outlive a new table.
  let only = "", sorted = "worst";
  const arrange = () => {
    const body = document.querySelector("#adc-results tbody");
    if (!body) return;
    const state = `${only} ${sorted}`;
    if (body.dataset.arranged === state) return;
    body.dataset.arranged = state;
    const rows = [...body.rows], number = (row) => Number(row.dataset.place);
    const keys = {
      worst: (a, b) => number(a) - number(b),
      name: (a, b) => a.dataset.name.localeCompare(b.dataset.name, undefined, { numeric: true }),
      score: (a, b) => (b.dataset.score || -1) - (a.dataset.score || -1) || number(a) - number(b),
    };
    rows.sort(keys[sorted]).forEach((row) => {
      row.hidden = Boolean(only) && row.dataset.verdict !== only;
      body.append(row);
    });
    for (const one of document.querySelectorAll("#adc-results [data-only]")) {
      one.setAttribute("aria-pressed", one.dataset.only === only);
    }
    for (const one of document.querySelectorAll("#adc-results [data-sort]")) {
      const order = one.dataset.sort === "name" ? "ascending" : "descending";
      one.closest("th").setAttribute("aria-sort", one.dataset.sort === sorted ? order : "none");
    }
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.matches("[data-x]")) {
      zoomTo(4, ...inFrame(Number(button.dataset.x), Number(button.dataset.y)));
    } else if (button?.matches("[data-enlarge]")) {
      enlarge(button);
    } else if (button?.matches("[data-only], [data-sort]")) {
      only = button.dataset.only ?? only;
      sorted = button.dataset.sort ?? sorted;
      arrange();
    } else if (over(event) && !button) {
      zoomTo(zoom() > 1 ? 1 : 4, ...at(event, over(event)));
    }
  });

  // The time of a run, which the server tells with each picture and which goes on in between; that of an answer under
  // way; and where it stands in gradio's queue, which tells that in English alone ("queue: 2/3").
  const write = (place, words) => { if (place.textContent !== words) place.textContent = words; };
  const time = (began) => {
    const seconds = Math.floor((performance.now() - began) / 1000);
    return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  };
  let began = null;
  const count = () => {
    for (const one of document.querySelectorAll("[data-runs]")) {
      one.began ??= performance.now() - 1000 * Number(one.dataset.seconds);
      write(one, time(one.began));
    }
    if (!byId("adc-elapsed")) return;
    const underWay = document.querySelector("#adc-verdict > .wrap:not(.hide)");
    began = underWay ? began ?? performance.now() : null;
    write(byId("adc-elapsed"), time(began ?? performance.now()));
    const place = underWay?.textContent.match(/queue: (\d+\/\d+)/)?.[1] ?? "";
    write(byId("adc-place"), place);
    const queued = byId("adc-place").parentElement;
    if (queued.hidden === Boolean(place)) queued.hidden = !place;  // a page that is left alone does not change
  };
  setInterval(count, 250);

  const look = () => { name(); arrange(); };
  new MutationObserver(look).observe(document.documentElement, {
    subtree: true, childList: true, attributes: true, attributeFilter: ["src"],
  });
})();
