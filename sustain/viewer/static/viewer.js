"use strict";

const titles = {
  wealth: "corrected", wealth_raw: "as predicted", wealth_se: "standard error", support: "within calibrated range",
  imagery_share: "share with imagery", extrapolated_share: "share beyond support",
};
const support = ["yes", "no: extrapolated", "no imagery"];
const element = (id) => document.getElementById(id);
const number = (value) => (value === null ? "none" : value.toFixed(3).replace("-", "\u2212"));

const map = L.map("map", { zoomControl: true, attributionControl: false, doubleClickZoom: false });
L.control.scale({ imperial: false, position: "bottomleft" }).addTo(map);
let shown = null;
let about = null;
let corners = null;  // of the region being drawn
let outline = null;

function show(layer) {
  if (shown) shown.remove();
  shown = L.tileLayer(`tiles/${encodeURIComponent(layer.name)}/{z}/{x}/{y}.png`, { maxZoom: 18, noWrap: true }).addTo(map);
  element("ramp").style.background = `linear-gradient(to right, ${layer.colours.join(", ")})`;
  element("low").textContent = layer.name === "support" ? "within range" : (layer.low > 0 || layer.low < 0 ? "\u2264 " : "") + number(layer.low);
  element("high").textContent = layer.name === "support" ? "no imagery" : `\u2265 ${number(layer.high)}`;
  element("unit").textContent = layer.name === "support" ? "" : about.unit;
}

function tell(caption, rows) {
  const table = element("values");
  table.querySelector("caption").textContent = caption;
  const body = table.querySelector("tbody");
  body.replaceChildren(...rows.map(([name, text]) => {
    const row = document.createElement("tr");
    for (const content of [name, text]) row.appendChild(document.createElement("td")).textContent = content;
    return row;
  }));
  table.hidden = false;
}

async function ask(address, options) {
  const answer = await fetch(address, options);
  const content = await answer.json();
  if (!answer.ok) throw new Error(typeof content.detail === "string" ? content.detail : `${answer.status}`);
  return content;
}

const line = ([name, value]) => [titles[name] || name, name === "support" ? support[value] || "" : number(value)];

async function look(point) {
  const values = await ask(`at?lon=${point.lng}&lat=${point.lat}`);
  tell(`${point.lat.toFixed(4)}, ${point.lng.toFixed(4)}`, Object.entries(values).map(line));
}

async function measure(points) {
  const body = JSON.stringify({ corners: points.map((point) => [point.lng, point.lat]) });
  const means = await ask("region", { method: "POST", headers: { "Content-Type": "application/json" }, body });
  const rows = Object.entries(means).map(line);
  if (means.wealth !== null && means.wealth !== undefined && means.wealth_se !== undefined && means.wealth_se !== null) {
    const reach = 1.96 * means.wealth_se;
    rows.splice(1, 0, ["95% interval, at most", `${number(means.wealth - reach)} to ${number(means.wealth + reach)}`]);
  }
  tell("Mean of the region", rows);
  element("hint").textContent = "The interval takes the errors of all cells as shared, which is the widest it can be.";
}

function fail(error) {
  element("hint").textContent = error.message;
}

function stopDrawing() {
  corners = null;
  element("draw").textContent = "Draw a region";
  map.getContainer().style.cursor = "";
}

element("draw").addEventListener("click", () => {
  if (corners) { stopDrawing(); return; }
  if (outline) outline.remove();
  corners = [];
  outline = L.polygon([], { color: "#d55e00", weight: 2, fillOpacity: 0.1 }).addTo(map);
  element("draw").textContent = "Cancel";
  element("hint").textContent = "Click the corners; double-click to finish.";
  map.getContainer().style.cursor = "crosshair";
});

map.on("click", (event) => {
  if (!corners) { look(event.latlng).catch(fail); return; }
  corners.push(event.latlng);
  outline.setLatLngs(corners);
});

map.on("dblclick", () => {
  if (!corners) { map.zoomIn(); return; }
  // A double click is two clicks first: the last corner came twice.
  const points = corners.filter((point, i) => i === 0 || !point.equals(corners[i - 1]));
  stopDrawing();
  measure(points).catch(fail);
});

ask("map.json").then((content) => {
  about = content;
  const [west, south, east, north] = about.bounds;
  const panel = element("panel").getBoundingClientRect();
  const beside = panel.width < window.innerWidth / 2;
  const padding = beside ? [panel.width + 24, 12] : [12, panel.height + 24];
  map.fitBounds([[south, west], [north, east]], { paddingTopLeft: [12, 12], paddingBottomRight: padding });
  L.rectangle([[south, west], [north, east]], { color: "#666", weight: 1, fill: false, interactive: false }).addTo(map);
  element("title").textContent = document.title = about.title.replaceAll("_", " ");
  element("source").textContent = about.method ? `Correction: ${about.method}. Card ${about.card.slice(0, 12)}.` : "";
  about.layers.forEach((layer, i) => {
    const label = document.createElement("label");
    const radio = document.createElement("input");
    Object.assign(radio, { type: "radio", name: "layer", value: layer.name, checked: i === 0 });
    radio.addEventListener("change", () => show(layer));
    label.append(radio, ` ${layer.title}`);
    element("layers").append(label);
  });
  show(about.layers[0]);
}).catch(fail);
