// Two layers of tiles, one on either side of a line that can be moved: by hand, by mouse, by arrow keys.

const place = (value) => Math.min(1, Math.max(0, value));

// Returns a function that takes the line and both layers away. `texts`: what stands left and right of the line.
export function swipe(map, left, right, texts) {
  let share = 0.5;
  const line = L.DomUtil.create("div", "", map.getContainer());
  line.id = "swipe";
  const handle = L.DomUtil.create("button", "", line);
  handle.type = "button";
  handle.textContent = "\u2194";
  for (const [name, value] of Object.entries({ role: "slider", "aria-label": "Where the two maps meet", "aria-valuemin": 0, "aria-valuemax": 100 })) {
    handle.setAttribute(name, value);
  }
  const tags = ["before", "after"].map((name, i) => {
    const tag = L.DomUtil.create("span", name, line);
    tag.textContent = texts[i];
    return tag;
  });
  L.DomEvent.disableClickPropagation(line);

  function clip() {
    const size = map.getSize();
    const [start, end] = [map.containerPointToLayerPoint([0, 0]), map.containerPointToLayerPoint(size)];
    const x = start.x + share * size.x;
    left.getContainer().style.clip = `rect(${start.y}px, ${x}px, ${end.y}px, ${start.x}px)`;
    right.getContainer().style.clip = `rect(${start.y}px, ${end.x}px, ${end.y}px, ${x}px)`;
    line.style.left = `${share * size.x}px`;
    handle.setAttribute("aria-valuenow", Math.round(100 * share));
    // A text that finds no room on its side is not cut in two.
    tags.forEach((tag, i) => {
      const room = (i ? 1 - share : share) * size.x;
      tag.style.visibility = room > tag.offsetWidth + 12 ? "visible" : "hidden";
    });
  }

  handle.addEventListener("pointerdown", (event) => {
    handle.setPointerCapture(event.pointerId);
    event.stopPropagation();
  });
  handle.addEventListener("pointermove", (event) => {
    if (!handle.hasPointerCapture(event.pointerId)) return;
    const box = map.getContainer().getBoundingClientRect();
    share = place((event.clientX - box.left) / box.width);
    clip();
  });
  handle.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -0.02, ArrowRight: 0.02, Home: -1, End: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    share = place(share + step);
    clip();
  });
  for (const layer of [left, right]) layer.addTo(map);
  map.on("move zoom zoomend viewreset resize", clip);
  clip();
  return () => {
    map.off("move zoom zoomend viewreset resize", clip);
    for (const layer of [left, right]) layer.remove();
    line.remove();
  };
}
