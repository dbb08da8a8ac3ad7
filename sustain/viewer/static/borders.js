// Borders and names of countries (Natural Earth), below and above the map's colours.

// Names that the source abbreviates, or that have changed since.
const SPELLED = {
  "Bosnia and Herz.": "Bosnia and Herzegovina", "Central African Rep.": "Central African Republic",
  "Dem. Rep. Congo": "Democratic Republic of the Congo", "Dominican Rep.": "Dominican Republic",
  "Eq. Guinea": "Equatorial Guinea", "Falkland Is.": "Falkland Islands", Macedonia: "North Macedonia", "S. Sudan": "South Sudan",
  "Solomon Is.": "Solomon Islands", Turkey: "T\u00fcrkiye", "W. Sahara": "Western Sahara", eSwatini: "Eswatini",
};
const FREE = { left: 48, right: 12, top: 20, bottom: 40 }; // pixels at the window's edges, where controls are
const HALF = 8; // of a name's height
const MARK = 14; // pixels around the marked place that no name covers

// Longitudes that go on counting across 180 degrees, so that no line runs around the world.
function unwrapped(line) {
  let turn = 0;
  return line.map(([lon, lat], i) => {
    if (i && Math.abs(lon - line[i - 1][0]) > 180) turn += lon < line[i - 1][0] ? 360 : -360;
    return [lon + turn, lat];
  });
}

// Pieces of a line that are no cut along 180 degrees, which the source has where no border is.
function withoutCuts(line) {
  const pieces = [[line[0]]];
  for (let i = 1; i < line.length; i++) {
    const cut = [line[i], line[i - 1]].every(([lon]) => Math.abs(Math.abs(lon % 360) - 180) < 1e-6);
    if (cut) pieces.push([line[i]]); else pieces[pieces.length - 1].push(line[i]);
  }
  return pieces.filter((piece) => piece.length > 1);
}

const size = (ring) => Math.abs(ring.reduce((sum, [x, y], i) => {
  const [u, v] = ring[(i + 1) % ring.length];
  return sum + (x * v - u * y) * Math.cos(y * Math.PI / 180);
}, 0));

const latlngs = (line, turn) => line.map(([lon, lat]) => [lat, lon + turn]);

// The largest piece of a country: its rings, and their bounds in degrees.
function mainPiece(country) {
  const { type, coordinates } = country.geometry;
  const pieces = (type === "Polygon" ? [coordinates] : coordinates).map((rings) => rings.map(unwrapped));
  const rings = pieces.reduce((best, piece) => (size(piece[0]) > size(best[0]) ? piece : best));
  const [lons, lats] = [0, 1].map((axis) => rings[0].map((point) => point[axis]));
  const { name } = country.properties;
  const bounds = [Math.min(...lons), Math.min(...lats), Math.max(...lons), Math.max(...lats)];
  return { names: SPELLED[name] ? [SPELLED[name], name] : [name], rings, bounds };
}

// Stretches of the height y that lie inside of the rings, all of them closed.
function stretches(rings, y) {
  const crossings = [];
  for (const ring of rings) {
    for (let i = 0; i < ring.length; i++) {
      const [a, b] = [ring[i], ring[(i + 1) % ring.length]];
      if (a.y > y !== b.y > y) crossings.push(a.x + (y - a.y) / (b.y - a.y) * (b.x - a.x));
    }
  }
  crossings.sort((a, b) => a - b);
  return crossings.flatMap((x, i) => (i % 2 ? [] : [[x, crossings[i + 1]]]));
}

// Where a name of this width fits into what is seen of a country; null where it does not.
function roomFor(rings, width, window, marked) {
  const beside = ([start, end], y) => (!marked || Math.abs(marked.y - y) > MARK + HALF ? [[start, end]]
    : [[start, Math.min(end, marked.x - MARK)], [Math.max(start, marked.x + MARK), end]]);
  const ys = rings[0].map((point) => point.y);
  const top = Math.max(Math.min(...ys), FREE.top), bottom = Math.min(Math.max(...ys), window.y - FREE.bottom);
  let best = null;
  for (let k = 1; k < 16; k++) {
    const y = top + (bottom - top) * k / 16;
    const above = stretches(rings, y - HALF), below = stretches(rings, y + HALF);
    for (const [left, right] of stretches(rings, y)) {
      for (const [a, b] of above) {
        for (const [c, d] of below) {
          const whole = [Math.max(left, a, c, FREE.left), Math.min(right, b, d, window.x - FREE.right)];
          for (const [start, end] of beside(whole, y)) {
            const worth = (end - start) * (1 - 0.7 * Math.abs(k - 8) / 8);
            if (bottom > top && end - start >= width + 6 && (!best || worth > best.worth)) best = { worth, x: (start + end) / 2, y };
          }
        }
      }
    }
  }
  return best;
}

// Returns a function that shows and hides them.
export async function addBorders(map) {
  const world = await (await fetch("vendor/countries-50m.json")).json();
  const { countries } = world.objects;
  map.createPane("land").style.zIndex = 120;
  map.createPane("borders").style.zIndex = 350;
  map.createPane("names").style.zIndex = 360;
  const land = L.canvas({ pane: "land", padding: 0.3 });
  const ink = L.canvas({ pane: "borders", padding: 0.3 });
  const lines = topojson.mesh(world, countries).coordinates.flatMap((line) => withoutCuts(unwrapped(line)));
  const ground = topojson.feature(world, countries).features.flatMap(({ geometry: { type, coordinates } }) => (
    (type === "Polygon" ? [coordinates] : coordinates).map((rings) => rings.map(unwrapped))));
  const pieces = topojson.feature(world, countries).features.map(mainPiece);
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = "600 12px system-ui, sans-serif";

  const drawn = L.layerGroup();
  const names = L.layerGroup();
  const copies = new Set();
  let marked = null; // the clicked place

  function drawCopies() {
    const view = map.getBounds();
    for (let turn = Math.floor((view.getWest() + 180) / 360); turn <= Math.floor((view.getEast() + 180) / 360); turn++) {
      if (copies.has(turn)) continue;
      copies.add(turn);
      const still = { interactive: false, smoothFactor: 1 };
      const moved = lines.map((line) => latlngs(line, 360 * turn));
      L.polygon(ground.map((rings) => rings.map((ring) => latlngs(ring, 360 * turn))),
        { ...still, renderer: land, pane: "land", stroke: false, fillColor: "#f4f3ef", fillOpacity: 1, fillRule: "nonzero" }).addTo(map);
      // A dark line in a light one: seen on every colour.
      L.polyline(moved, { ...still, renderer: ink, pane: "borders", color: "#fff", opacity: 0.75, weight: 3 }).addTo(drawn);
      L.polyline(moved, { ...still, renderer: ink, pane: "borders", color: "#222", weight: 1 }).addTo(drawn);
    }
  }

  function drawNames() {
    names.clearLayers();
    const view = map.getBounds(), window = map.getSize();
    for (const { names: texts, rings, bounds: [west, south, east, north] } of pieces) {
      if (south > view.getNorth() || north < view.getSouth()) continue;
      for (let turn = Math.ceil((view.getWest() - east) / 360); west + 360 * turn <= view.getEast(); turn++) {
        let points = null;
        for (const text of texts) {
          const width = pen.measureText(text).width;
          const across = map.latLngToContainerPoint([0, east]).x - map.latLngToContainerPoint([0, west]).x;
          if (across < width) continue;
          points ||= rings.map((ring) => latlngs(ring, 360 * turn).map((place) => map.latLngToContainerPoint(place)));
          const room = roomFor(points, width, window, marked && map.latLngToContainerPoint(marked));
          if (!room) continue;
          const label = document.createElement("div");
          label.textContent = text;
          const icon = L.divIcon({ className: "country", html: label, iconSize: [width + 4, 2 * HALF] });
          L.marker(map.containerPointToLatLng([room.x, room.y]), { pane: "names", icon, interactive: false, keyboard: false }).addTo(names);
          break;
        }
      }
    }
  }

  const update = () => { drawCopies(); if (map.hasLayer(names)) drawNames(); };
  map.on("moveend resize", update);
  map.on("marked", (event) => { marked = event.place; update(); });
  return (wanted) => {
    for (const layer of [drawn, names]) if (wanted) layer.addTo(map); else layer.remove();
    update();
  };
}
