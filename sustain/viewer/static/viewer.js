"use strict";

const titles = {
  wealth: "corrected", wealth_raw: "as predicted", wealth_se: "standard error", support: "within calibrated range",
  imagery_share: "share with imagery", extrapolated_share: "share beyond support",
};
const support = ["yes", "no: extrapolated", "no imagery"];
const element = (id) => document.getElementById(id);
const number = (value) => (value === null ? "none" : String(Number(value.toPrecision(3))).replace("-", "\u2212"));

const map = L.map("map", { zoomControl: true, attributionControl: false, doubleClickZoom: false });
L.control.scale({ imperial: false, position: "bottomleft" }).addTo(map);
let shown = null;
let about = null;
let corners = null;  // of the region being drawn
let outline = null;

function show(layer) {
  if (shown) shown.remove();
  shown = L.tileLayer(`tiles/${encodeURIComponent(layer.name)}/{z}/{x}/{y}.png`, { maxZoom: 18, noWrap: true }).addTo(map);
  const kinds = layer.kinds.length > 0;
  for (const id of ["ramp", "ends"]) element(id).hidden = kinds;
  element("kinds").replaceChildren(...layer.kinds.map((kind, i) => {
    const entry = document.createElement("li");
    const swatch = document.createElement("span");
    swatch.style.background = layer.colours[i];
    entry.append(swatch, kind);
    return entry;
  }));
  if (kinds) return;
  element("ramp").style.background = `linear-gradient(to right, ${layer.colours.join(", ")})`;
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
}

async function ask(address, options) {
  const answer = await fetch(address, options);
  const content = await answer.json();
  if (!answer.ok) throw new Error(typeof content.detail === "string" ? content.detail : `${answer.status}`);
  return content;
}

const line = ([name, value]) => [titles[name] || name, name === "support" ? support[value] || "" : number(value)];

async function look(clicked) {
  const point = clicked.wrap(); // beyond 180 degrees Leaflet goes on counting
  const values = await ask(`at?lon=${point.lng}&lat=${point.lat}`);
  const degrees = (value, ends) => `${Math.abs(value).toFixed(4)}\u00b0 ${ends[value < 0 ? 1 : 0]}`;
  tell(`Cell at ${degrees(point.lat, "NS")}, ${degrees(point.lng, "EW")}`, Object.entries(values).map(line));
  element("hint").textContent = "One cell is uncertain by about twice its standard error.";
}

const interval = (low, high) => (low === null ? "none" : `${number(low)} to ${number(high)}`);
const share = (value) => (value === null ? "none" : `${Math.round(100 * value)} %`);

// With a card: what the region's wealth is, and what its corrected mean is, each with its interval.
function withCard(means) {
  tell("Mean of the region", [
    ["wealth to expect", number(means.expected)],
    ["95%", interval(means.expected_low95, means.expected_high95)],
    ["corrected", number(means.wealth)],
    ["its 95%", interval(means.low95, means.high95)],
    ["as predicted", number(means.wealth_raw)],
    ["cells", String(means.cells)],
    ["with imagery", share(means.imagery_share)],
    ["extrapolated", share(means.extrapolated_share)],
  ]);
  return "\u201cTo expect\u201d says how wealthy the region is. \u201cCorrected\u201d is for differences, such as a programme\u2019s "
    + "effect. Both intervals hold the calibration\u2019s error and those of the cells, as far as neighbours err together; "
    + "where the card does not say how far that is, all are taken to.";
}

function withoutCard(means) {
  const rows = Object.entries(means).map(line);
  const known = (value) => value !== null && value !== undefined;
  if (known(means.wealth) && known(means.wealth_se)) {
    const reach = 1.96 * means.wealth_se;
    rows.splice(1, 0, ["95%, at most", interval(means.wealth - reach, means.wealth + reach)]);
  }
  tell("Mean of the region", rows);
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
