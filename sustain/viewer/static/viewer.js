"use strict";

const titles = {
  wealth: "corrected", wealth_raw: "as predicted", wealth_se: "standard error", support: "within calibrated range",
  imagery_share: "share with imagery", extrapolated_share: "share beyond support",
};
const support = ["yes", "no: extrapolated", "no imagery"];
const element = (id) => document.getElementById(id);
const number = (value) => (value === null ? "none" : String(Number(value.toPrecision(3))).replace("-", "\u2212"));

const narrow = window.matchMedia("(max-width: 520px)").matches;  // the panel lies below the map then
// Quarters of a zoom level, so that a map fills the window.
const map = L.map("map", { zoomSnap: 0.25, attributionControl: false, doubleClickZoom: false });
L.control.scale({ imperial: false, position: narrow ? "topright" : "bottomleft" }).addTo(map);
let shown = null;
let about = null;
let corners = null;  // of the region being drawn
let outline = null;
let dots = null;  // its corners, while it is being drawn

// Lines of longitude and latitude below the tiles, so that a reader knows where in the world he is.
map.createPane("graticule").style.zIndex = 150;
const graticule = L.layerGroup().addTo(map);

function drawGraticule() {
  graticule.clearLayers();
  const view = map.getBounds();
  const steps = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 45, 90];
  const step = steps.find((size) => map.getSize().x / (view.getEast() - view.getWest()) * size >= 110) || 90;
  const options = { pane: "graticule", color: "#c2c7cc", weight: 1, interactive: false };
  const degrees = (value, ends) => `${Number(Math.abs(value).toFixed(2))}\u00b0${value ? ` ${ends[value < 0 ? 1 : 0]}` : ""}`;
  const label = (place, text, anchor) => L.marker(place, {
    pane: "graticule", interactive: false, keyboard: false,
    icon: L.divIcon({ className: "degrees", html: text, iconSize: null, iconAnchor: anchor }),
  }).addTo(graticule);
  for (let i = Math.ceil(view.getWest() / step); i * step <= view.getEast(); i++) {
    L.polyline([[view.getSouth(), i * step], [view.getNorth(), i * step]], options).addTo(graticule);
    label([view.getNorth(), i * step], degrees(L.latLng(0, i * step).wrap().lng, "EW"), [-3, -2]);
  }
  for (let i = Math.ceil(Math.max(view.getSouth(), -85) / step); i * step <= Math.min(view.getNorth(), 85); i++) {
    L.polyline([[i * step, view.getWest()], [i * step, view.getEast()]], options).addTo(graticule);
    label([i * step, view.getWest()], degrees(i * step, "NS"), [-3, -2]);
  }
}

map.on("moveend", drawGraticule);

function show(layer) {
  if (shown) shown.remove();
  // Across 180 degrees tiles are those of the other end of the world, so they must be let wrap.
  shown = L.tileLayer(`tiles/${encodeURIComponent(layer.name)}/{z}/{x}/{y}.png`, { maxZoom: 18 }).addTo(map);
  const kinds = layer.kinds.length > 0;
  for (const id of ["ramp", "ends"]) element(id).hidden = kinds;
  element("kinds").replaceChildren(...layer.kinds.map((kind, i) => {
    const entry = document.createElement("li");
    const swatch = document.createElement("span");
    swatch.style.background = layer.colours[i];
    entry.append(swatch, kind);
    return entry;
  }));
  const one = layer.name.startsWith("wealth") && layer.name !== "wealth_se" && about.one_scale;
  element("remark").textContent = kinds ? "" : "No colour: no value." + (one ? " One scale for both maps of wealth." : "");
  if (kinds) return;
  element("ramp").style.backgroundImage = `linear-gradient(to right, ${layer.colours.join(", ")})`;
  element("low").textContent = (layer.low > 0 || layer.low < 0 ? "\u2264 " : "") + number(layer.low);
  element("high").textContent = `\u2265 ${number(layer.high)}`;
  element("unit").textContent = about.unit;
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
  table.scrollIntoView({ block: "nearest" });
}

async function ask(address, options) {
  const answer = await fetch(address, options);
  const content = await answer.json();
  if (!answer.ok) throw new Error(typeof content.detail === "string" ? content.detail : `${answer.status}`);
  return content;
}

const inUnit = () => (about.unit ? ` (${about.unit})` : "");
const line = ([name, value]) => [titles[name] || name, name === "support" ? support[value] || "" : number(value)];

async function look(clicked) {
  const point = clicked.wrap(); // beyond 180 degrees Leaflet goes on counting
  const values = await ask(`at?lon=${point.lng}&lat=${point.lat}`);
  const known = Object.entries(values).some(([name, value]) => name !== "support" && value !== null);
  const degrees = (value, ends) => `${Math.abs(value).toFixed(4)}\u00b0 ${ends[value < 0 ? 1 : 0]}`;
  const rows = Object.entries(values).map(line);
  element("hint").textContent = withReach(rows, values)
    ? "The 95% interval is that of this one cell: 1.96 standard errors either way."
    : known ? "" : "No value here: there is no imagery, or the place is outside of the map.";
  tell(`Cell at ${degrees(point.lat, "NS")}, ${degrees(point.lng, "EW")}${inUnit()}`, rows);
}

const interval = (low, high) => (low === null ? "none" : `${number(low)} to ${number(high)}`);

// Puts the interval of corrected wealth, where its standard error is known, into the second row; says whether it did.
function withReach(rows, values, name = "95%") {
  const known = (value) => value !== null && value !== undefined;
  if (!known(values.wealth) || !known(values.wealth_se)) return false;
  const reach = 1.96 * values.wealth_se;
  rows.splice(1, 0, [name, interval(values.wealth - reach, values.wealth + reach)]);
  return true;
}
const share = (value) => (value === null ? "none" : `${Math.round(100 * value)} %`);

// With a card: what the region's wealth is, and what its corrected mean is, each with its interval.
function withCard(means) {
  tell(`Mean of the region${inUnit()}`, [
    ["wealth to expect", number(means.expected)],
    ["95%", interval(means.expected_low95, means.expected_high95)],
    ["corrected", number(means.wealth)],
    ["its 95%", interval(means.low95, means.high95)],
    ["as predicted", number(means.wealth_raw)],
    ["cells", String(means.cells)],
    ["with imagery", share(means.imagery_share)],
    ["extrapolated", share(means.extrapolated_share)],
  ]);
  return "\u201cTo expect\u201d says how wealthy the region is, by the card\u2019s line of truth on prediction; \u201cas predicted\u201d may be "
    + "nearer where the model\u2019s level is right, but has no interval. \u201cCorrected\u201d is for differences, such as a programme\u2019s "
    + "effect. Both intervals hold the calibration\u2019s error and those of the cells, as far as neighbours (and, if the "
    + "card knows it, all of a country) err together; where the card says nothing of neighbours, all cells are taken to.";
}

function withoutCard(means) {
  const rows = Object.entries(means).map(line);
  withReach(rows, means, "95%, at most");
  tell(`Mean of the region${inUnit()}`, rows);
  return "No calibration card beside the map: the interval takes the errors of all cells as alike, which is the widest it can be.";
}

async function measure(points) {
  const body = JSON.stringify({ corners: points.map((point) => [point.lng, point.lat]) });
  element("hint").textContent = "Adding up the cells\u2026";
  const means = await ask("region", { method: "POST", headers: { "Content-Type": "application/json" }, body });
  element("hint").textContent = about.has_card ? withCard(means) : withoutCard(means);
}

function fail(error) {
  element("hint").textContent = error.message;
}

function startDrawing() {
  if (outline) outline.remove();
  corners = [];
  // Not filled: a tint would change the colours that are to be read.
  outline = L.polygon([], { color: "#d55e00", weight: 3, fill: false, interactive: false }).addTo(map);
  dots = L.layerGroup().addTo(map);
  element("draw").textContent = "Cancel";
  element("hint").textContent = "Click the corners; double-click, or press Finish, at the last.";
  map.getContainer().style.cursor = "crosshair";
}

function stopDrawing() {
  corners = null;
  dots.remove();
  element("draw").textContent = "Draw a region";
  element("finish").hidden = true;
  map.getContainer().style.cursor = "";
}

function cancel() {
  stopDrawing();
  outline.remove();
  element("hint").textContent = "Click the map for the values of a cell.";
}

function finish() {
  // A double click is two clicks first: the last corner came twice.
  const points = corners.filter((point, i) => i === 0 || !point.equals(corners[i - 1]));
  stopDrawing();
  measure(points).catch(fail);
}

element("draw").addEventListener("click", () => (corners ? cancel() : startDrawing()));
element("finish").addEventListener("click", finish);

document.addEventListener("keydown", (event) => {
  if (corners && event.key === "Escape") cancel();
});

map.on("click", (event) => {
  if (!corners) { look(event.latlng).catch(fail); return; }
  corners.push(event.latlng);
  outline.setLatLngs(corners);
  L.circleMarker(event.latlng, { radius: 4, color: "#d55e00", fillColor: "#fff", fillOpacity: 1, interactive: false }).addTo(dots);
  element("finish").hidden = corners.length < 3;
});

map.on("dblclick", () => (corners ? finish() : map.zoomIn(1)));

ask("map.json").then((content) => {
  about = content;
  const [west, south, east, north] = about.bounds;
  element("title").textContent = document.title = about.title.replaceAll("_", " ");
  element("source").textContent = about.method ? `Correction: ${about.method}. Card ${about.card.slice(0, 12)}.` : "";
  about.layers.forEach((layer, i) => {
    const label = document.createElement("label");
    const radio = document.createElement("input");
    Object.assign(radio, { type: "radio", name: "layer", value: layer.name, checked: i === 0 });
    radio.addEventListener("change", () => show(layer));
    label.append(radio, layer.title);
    element("layers").append(label);
  });
  show(about.layers[0]);
  // Room for the panel: beside the map, or below it where it grows to half of the window.
  const padding = narrow ? [12, window.innerHeight / 2 + 16] : [element("panel").offsetWidth + 24, 12];
  const frame = [[south, west], [north, east]];
  map.fitBounds(frame, { paddingTopLeft: narrow ? [12, 24] : [44, 24], paddingBottomRight: padding });
  L.rectangle(frame, { color: "#666", weight: 1, fill: false, interactive: false, className: "frame" }).addTo(map);
}).catch(fail);
