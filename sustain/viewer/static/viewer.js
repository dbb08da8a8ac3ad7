import { addBorders } from "./borders.js";
import { swipe } from "./swipe.js";

const titles = {
  wealth: "corrected", wealth_raw: "as predicted", wealth_se: "standard error", support: "within calibrated range",
  imagery_share: "share with imagery", extrapolated_share: "share beyond support",
};
const support = ["yes", "no: extrapolated", "no imagery"];
const element = (id) => document.getElementById(id);
const number = (value) => (value === null ? "none" : String(Number(value.toPrecision(3))).replace("-", "\u2212"));

// Quarters of a zoom level, so that a map fills the window.
const map = L.map("map", { zoomSnap: 0.25, attributionControl: false, doubleClickZoom: false });
L.control.scale({ imperial: false, position: "bottomleft" }).addTo(map);
let shown = null;  // the layer on the map, and its scale in the legend
let takeAway = () => {};
let clicked = null;  // values of the clicked cell
let about = null;
let corners = null;  // of the region being drawn
let outline = null;
let dots = null;  // its corners, while it is being drawn

// Lines of longitude and latitude below the tiles, so that a reader knows where in the world he is.
map.createPane("graticule").style.zIndex = 150;
map.createPane("degrees").style.zIndex = 355;
const graticule = L.layerGroup().addTo(map);

function drawGraticule() {
  graticule.clearLayers();
  const view = map.getBounds();
  const steps = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 45, 90];
  const step = steps.find((size) => map.getSize().x / (view.getEast() - view.getWest()) * size >= 110) || 90;
  const options = { pane: "graticule", color: "#c2c7cc", weight: 1, interactive: false };
  const degrees = (value, ends) => `${Number(Math.abs(value).toFixed(2))}\u00b0${value ? ` ${ends[value < 0 ? 1 : 0]}` : ""}`;
  const controls = map.getContainer().querySelector(".leaflet-control-zoom").getBoundingClientRect().bottom;
  const hidden = (place) => map.latLngToContainerPoint(place).y < controls + 8; // behind the buttons
  const label = (place, text, anchor) => L.marker(place, {
    pane: "degrees", interactive: false, keyboard: false,
    icon: L.divIcon({ className: "degrees", html: text, iconSize: null, iconAnchor: anchor }),
  }).addTo(graticule);
  for (let i = Math.ceil(view.getWest() / step); i * step <= view.getEast(); i++) {
    L.polyline([[view.getSouth(), i * step], [view.getNorth(), i * step]], options).addTo(graticule);
    label([view.getNorth(), i * step], degrees(L.latLng(0, i * step).wrap().lng, "EW"), [-3, -2]);
  }
  for (let i = Math.ceil(Math.max(view.getSouth(), -85) / step); i * step <= Math.min(view.getNorth(), 85); i++) {
    L.polyline([[i * step, view.getWest()], [i * step, view.getEast()]], options).addTo(graticule);
    const west = [i * step, view.getWest()];
    if (!hidden(west)) label(west, degrees(i * step, "NS"), [-3, -2]);
  }
}

map.on("moveend", drawGraticule);

// Across 180 degrees tiles are those of the other end of the world, so they must be let wrap.
const tilesOf = (layer) => L.tileLayer(`tiles/${encodeURIComponent(layer.name)}/{z}/{x}/{y}.png`, { maxZoom: 24 });

function show(layer) {
  takeAway();
  const tiles = tilesOf(layer).addTo(map);
  takeAway = () => tiles.remove();
  explain(layer, layer.title);
}

function compare() {
  takeAway();
  const [before, after] = ["wealth_raw", "wealth"].map((name) => about.layers.find((layer) => layer.name === name));
  takeAway = swipe(map, tilesOf(before), tilesOf(after), ["as predicted", "corrected"]);
  explain(after, "Wealth: as predicted | corrected");
}

function explain(layer, title) {
  shown = layer;
  const kinds = layer.kinds.length > 0;
  for (const id of ["ramp", "ends"]) element(id).hidden = kinds;
  element("shown").textContent = title;
  element("kinds").replaceChildren(...layer.kinds.map((kind, i) => {
    const entry = document.createElement("li");
    const swatch = document.createElement("span");
    swatch.style.background = layer.colours[i];
    entry.append(swatch, kind);
    return entry;
  }));
  const one = about.compared && ["wealth", "wealth_raw"].includes(layer.name);
  element("remark").textContent = kinds ? "" : "No colour: no value." + (one ? " One scale for both maps of wealth." : "");
  element("ramp").style.backgroundImage = `linear-gradient(to right, ${layer.colours.join(", ")})`;
  [element("low").textContent, element("high").textContent] = layer.ends;
  element("unit").textContent = about.unit;
  needle();
}

// A needle on the legend at the clicked cell's value.
function needle() {
  const value = clicked && clicked[shown.name];
  element("needle").hidden = value === null || value === undefined;
  if (!element("needle").hidden) {
    element("needle").style.left = `${100 * Math.min(1, Math.max(0, (value - shown.low) / (shown.high - shown.low)))}%`;
  }
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

// The clicked cell: its outline, and a ring that is seen where cells are small. Not filled, so that its colour can be read.
const mark = L.layerGroup().addTo(map);

function markCell(place, cell) {
  mark.clearLayers();
  const corners = (cell || []).map(([lon, lat]) => [lat, lon]);
  const middle = cell ? L.polygon(corners).getBounds().getCenter() : place;
  for (const [color, weight] of [["#fff", 4], ["#111", 2]]) {
    const look = { color, weight, fill: false, interactive: false };
    if (cell) L.polygon(corners, { ...look, className: "cell" }).addTo(mark);
    L.circleMarker(middle, { ...look, radius: 10, className: "marker" }).addTo(mark);
  }
  map.fire("marked", { place: middle });
}

async function look(place) {
  const point = place.wrap(); // beyond 180 degrees Leaflet goes on counting
  const { values, cell } = await ask(`at?lon=${point.lng}&lat=${point.lat}`);
  markCell(place, cell && cell.map(([lon, lat]) => [lon + place.lng - point.lng, lat]));
  const known = Object.entries(values).some(([name, value]) => name !== "support" && value !== null);
  const degrees = (value, ends) => `${Math.abs(value).toFixed(4)}\u00b0 ${ends[value < 0 ? 1 : 0]}`;
  const rows = Object.entries(values).map(line);
  element("hint").textContent = withReach(rows, values)
    ? "The 95% interval is that of this one cell: 1.96 standard errors either way."
    : known ? "" : "No value here: there is no imagery, or the place is outside of the map.";
  tell(`Cell at ${degrees(point.lat, "NS")}, ${degrees(point.lng, "EW")}${inUnit()}`, rows);
  clicked = values;
  needle();
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
  mark.clearLayers();
  clicked = null;
  needle();
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

// A ring around the map tells those who use keys where they are; a click needs none.
document.addEventListener("pointerdown", () => document.body.classList.remove("by-keys"));
document.addEventListener("keydown", (event) => {
  document.body.classList.add("by-keys");
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

// Title, period, terms.
function introduce() {
  element("title").textContent = document.title = about.title;
  element("period").textContent = about.period;
  const texts = [
    about.providers && `From: ${about.providers}.`,
    about.licence && `Licence: ${about.licence}.`,
    about.citation,
    about.method && `Correction: ${about.method}. Card ${about.card.slice(0, 12)}.`,
    "Borders and names: Natural Earth, public domain, 1:50 million; they are for orientation and say nothing of anybody\u2019s claims.",
  ];
  element("source").replaceChildren(...texts.filter(Boolean).map((text) => {
    const paragraph = document.createElement("p");
    paragraph.textContent = text;
    return paragraph;
  }));
}

function offer(value, title, act, checked) {
  const label = document.createElement("label");
  const radio = document.createElement("input");
  Object.assign(radio, { type: "radio", name: "layer", value, checked });
  radio.addEventListener("change", act);
  label.append(radio, title);
  element("layers").append(label);
}

async function start() {
  about = await ask("map.json");
  const [west, south, east, north] = about.bounds;
  introduce();
  about.layers.forEach((layer, i) => offer(layer.name, layer.title, () => show(layer), i === 0));
  if (about.compared) offer("compare", "As predicted beside corrected", compare, false);
  // The world fills the window, and no more than that.
  map.setMinZoom(Math.floor(4 * Math.log2(map.getSize().x / 256)) / 4);
  map.setMaxZoom(about.max_zoom);
  const frame = [[Math.max(south, -85), west], [Math.min(north, 85), east]];
  map.fitBounds(frame, { paddingTopLeft: [44, 24], paddingBottomRight: [12, 36] });
  L.rectangle(frame, { color: "#666", weight: 1, fill: false, interactive: false, className: "frame" }).addTo(map);
  show(about.layers[0]);
  const showBorders = await addBorders(map);
  const box = element("borders");
  box.addEventListener("change", () => showBorders(box.checked));
  showBorders(box.checked);
}

start().catch(fail);
