"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const COLOURS = 8;
const NAMES = { encoder: "Encoder", decoder: "Decoder", cross: "Cross" };
const ABOUT = {
  encoder: "Encoder self-attention: each word of the source (left) looks at its words (right).",
  decoder:
    "Decoder self-attention: when a word of the target (left) is written, the decoder looks at " +
    "the words before it (right), from the sentence's start <s> on.",
  cross:
    "Cross-attention: when a word of the target (left) is written, the decoder looks at the words " +
    "of the source (right).",
};
// Weights are thousandths. Of all links, those below FAINT are left out; of a chosen word's, those
// below LEAST.
const FAINT = 50;
const LEAST = 5;
const LEVELS = 20;
const TOP = 4;

const kinds = Object.keys(data.maps);
const state = {
  kind: kinds[0],
  layer: 0,
  heads: new Set(),
  view: "together",
  hover: null,
  focus: null,
  pin: null,
};

const byId = (id) => document.getElementById(id);
const map = () => data.maps[state.kind];
const colour = (head) => `var(--head-${head % COLOURS})`;
const percent = (weight) => `${weight < 5 ? "<1" : Math.round(weight / 10)}%`;
const chosen = () => state.pin ?? state.hover ?? state.focus;
const isSame = (one, other) =>
  one !== null && other !== null && one.side === other.side && one.index === other.index;

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== "") made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function svgElement(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function weight(head, query, key) {
  return map().layers[state.layer][head][query * map().keys.length + key];
}

function choice(type, group, value, text, isChecked, onChange) {
  const label = element("label", "");
  const input = element("input", "", { type, name: group, value });
  input.checked = isChecked;
  input.addEventListener("change", () => onChange(input.checked));
  label.append(input, element("span", text));
  return label;
}

function drawChoices() {
  byId("kinds").replaceChildren(
    ...kinds.map((kind) =>
      choice("radio", "kind", kind, NAMES[kind] ?? kind, kind === state.kind, () =>
        choose({ kind }),
      ),
    ),
  );
  byId("views").replaceChildren(
    ...[
      ["together", "Together"],
      ["apart", "Side by side"],
    ].map(([view, text]) =>
      choice("radio", "view", view, text, view === state.view, () => choose({ view })),
    ),
  );
  drawLayers();
  byId("heads").replaceChildren(
    ...map().layers[0].map((_, head) => {
      const label = choice(
        "checkbox",
        "head",
        head,
        `${head + 1}`,
        state.heads.has(head),
        (isOn) => {
          state.heads[isOn ? "add" : "delete"](head);
          drawPanels();
        },
      );
      label.firstChild.setAttribute("aria-label", `head ${head + 1}`);
      label.style.setProperty("--colour", colour(head));
      return label;
    }),
  );
}

function drawLayers() {
  byId("layers").replaceChildren(
    ...map().layers.map((_, layer) =>
      choice("radio", "layer", layer, `${layer + 1}`, layer === state.layer, () =>
        choose({ layer }),
      ),
    ),
  );
}

function choose(change) {
  Object.assign(state, change);
  if ("kind" in change) {
    state.hover = state.focus = state.pin = null;
    state.layer = Math.min(state.layer, map().layers.length - 1);
    drawLayers();
  }
  drawPanels();
}

// A head's links are one path for each level of strength, so that a long sentence stays quick.
function links(heads, pairs, least) {
  const paths = [];
  heads.forEach((head, place) => {
    const track = heads.length > 1 ? ((place + 0.5) / heads.length - 0.5) * 0.6 : 0;
    const levels = new Map();
    for (const [query, key] of pairs) {
      const strength = weight(head, query, key);
      if (strength < least) continue;
      const level = Math.ceil((strength * LEVELS) / 1000);
      levels.set(
        level,
        `${levels.get(level) ?? ""}M0 ${query + 0.5 + track}L1 ${key + 0.5 + track}`,
      );
    }
    for (const [level, d] of levels) {
      const path = svgElement("path", {
        d,
        "stroke-opacity": level / LEVELS,
        "stroke-width": 0.8 + (2.4 * level) / LEVELS,
      });
      path.style.setProperty("--colour", colour(head));
      paths.push(path);
    }
  });
  return paths;
}

function allPairs() {
  return map().queries.flatMap((_, query) => map().keys.map((_, key) => [query, key]));
}

function pairsOf({ side, index }) {
  return side === "query"
    ? map().keys.map((_, key) => [index, key])
    : map().queries.map((_, query) => [query, index]);
}

function words(side, labels) {
  const list = element("ol", "", { class: side === "query" ? "queries" : "keys" });
  list.append(
    ...labels.map((text, index) => {
      const item = element("li", "");
      const button = element("button", "", {
        class: "word",
        type: "button",
        tabindex: -1,
        title: text,
        "data-side": side,
        "data-index": index,
      });
      button.append(element("bdi", text), element("small", ""));
      item.append(button);
      return item;
    }),
  );
  return list;
}

function panel(heads) {
  const { queries, keys } = map();
  const section = element("section", "", { class: "panel" });
  if (state.view === "apart") {
    const title = element("h2", `head ${heads[0] + 1}`);
    title.style.setProperty("--colour", colour(heads[0]));
    section.append(title);
  }
  const rows = Math.max(queries.length, keys.length);
  const drawing = svgElement("svg", {
    viewBox: `0 0 1 ${rows}`,
    preserveAspectRatio: "none",
    "aria-hidden": "true",
  });
  drawing.style.setProperty("--rows", rows);
  const all = svgElement("g", { class: "all" });
  all.append(...links(heads, allPairs(), FAINT));
  drawing.append(all, svgElement("g", { class: "one" }));
  const box = element("div", "", { class: "map" });
  box.append(
    element("h3", "looks"),
    element("h3", "at"),
    words("query", queries),
    drawing,
    words("key", keys),
  );
  box.querySelector(".word").tabIndex = 0;
  section.append(box);
  section.heads = heads;
  return section;
}

function drawPanels() {
  const heads = [...state.heads].sort((one, other) => one - other);
  const groups = state.view === "together" ? [heads] : heads.map((head) => [head]);
  byId("about").textContent = ABOUT[state.kind] ?? "";
  byId("panels").className = state.view;
  byId("panels").replaceChildren(
    ...(heads.length ? groups.map(panel) : [element("p", "No head is chosen.")]),
  );
  drawChosen();
}

function drawChosen() {
  const place = chosen();
  for (const section of byId("panels").querySelectorAll(".panel")) {
    section.querySelector(".all").classList.toggle("dim", place !== null);
    section
      .querySelector(".one")
      .replaceChildren(...(place ? links(section.heads, pairsOf(place), LEAST) : []));
    for (const button of section.querySelectorAll(".word")) {
      const { side } = button.dataset;
      const index = Number(button.dataset.index);
      const isOther = place !== null && side !== place.side;
      const total = isOther
        ? section.heads.reduce(
            (sum, head) =>
              sum +
              (side === "key"
                ? weight(head, place.index, index)
                : weight(head, index, place.index)),
            0,
          )
        : 0;
      const mean = total / section.heads.length;
      button.classList.toggle("active", isSame(place, { side, index }));
      button.setAttribute("aria-pressed", isSame(state.pin, { side, index }));
      button.style.setProperty("--share", (0.55 * mean) / 1000);
      button.lastChild.textContent = mean >= 10 ? percent(mean) : "";
    }
  }
  drawReadout(place);
}

function drawReadout(place) {
  const heads = [...state.heads].sort((one, other) => one - other);
  if (place === null || !heads.length) {
    byId("readout").replaceChildren(
      element("p", "Point at a word, tap it, or move to it with the keys, to see its weights."),
    );
    return;
  }
  const isQuery = place.side === "query";
  const others = isQuery ? map().keys : map().queries;
  const title = element("h2", "");
  title.append(
    element("bdi", (isQuery ? map().queries : map().keys)[place.index]),
    isQuery ? " looks at" : " is looked at by",
  );
  const table = element("table", "");
  for (const head of heads) {
    const row = table.insertRow();
    const name = element("th", `head ${head + 1}`, { scope: "row" });
    name.style.setProperty("--colour", colour(head));
    const cell = element("td", "");
    pairsOf(place)
      .map(([query, key]) => [isQuery ? key : query, weight(head, query, key)])
      .filter(([, strength]) => strength >= LEAST)
      .sort((one, other) => other[1] - one[1])
      .slice(0, TOP)
      .forEach(([index, strength]) => {
        const entry = element("span", "");
        entry.append(element("bdi", others[index]), " ", element("small", percent(strength)));
        cell.append(entry, " ");
      });
    if (!cell.firstChild) cell.textContent = "nothing";
    row.append(name, cell);
  }
  byId("readout").replaceChildren(title, table);
}

function placeOf(target) {
  const button = target instanceof Element ? target.closest(".word") : null;
  return button ? { side: button.dataset.side, index: Number(button.dataset.index) } : null;
}

function listen() {
  const panels = byId("panels");
  panels.addEventListener("pointerover", (event) => {
    if (event.pointerType !== "mouse") return;
    state.hover = placeOf(event.target);
    drawChosen();
  });
  panels.addEventListener("pointerleave", () => {
    state.hover = null;
    drawChosen();
  });
  panels.addEventListener("focusin", (event) => {
    state.focus = event.target.matches(":focus-visible") ? placeOf(event.target) : null;
    const box = event.target.closest(".map");
    for (const button of box?.querySelectorAll(".word") ?? [])
      button.tabIndex = button === event.target ? 0 : -1;
    drawChosen();
  });
  panels.addEventListener("focusout", () => {
    state.focus = null;
    drawChosen();
  });
  panels.addEventListener("click", (event) => {
    const place = placeOf(event.target);
    if (place === null) return;
    state.pin = isSame(place, state.pin) ? null : place;
    drawChosen();
  });
  panels.addEventListener("keydown", (event) => {
    const place = placeOf(event.target);
    if (place === null || event.ctrlKey || event.altKey || event.metaKey) return;
    const isQuery = place.side === "query";
    const last = (isQuery ? map().queries : map().keys).length - 1;
    const moves = {
      ArrowUp: () => ({ ...place, index: Math.max(0, place.index - 1) }),
      ArrowDown: () => ({ ...place, index: Math.min(last, place.index + 1) }),
      Home: () => ({ ...place, index: 0 }),
      End: () => ({ ...place, index: last }),
      ArrowLeft: () => ({ side: "query", index: Math.min(place.index, map().queries.length - 1) }),
      ArrowRight: () => ({ side: "key", index: Math.min(place.index, map().keys.length - 1) }),
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    const { side, index } = moves[event.key]();
    // The keys lead on from a word that was kept.
    state.pin = null;
    event.target
      .closest(".map")
      .querySelector(`.word[data-side="${side}"][data-index="${index}"]`)
      .focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    state.hover = state.focus = state.pin = null;
    drawChosen();
  });
  byId("choices").addEventListener("submit", (event) => event.preventDefault());
  for (const [id, isOn] of [
    ["all", true],
    ["none", false],
  ]) {
    byId(id).addEventListener("click", () => {
      state.heads = new Set(isOn ? map().layers[0].keys() : []);
      drawChoices();
      drawPanels();
    });
  }
}

function start() {
  byId("source").textContent = data.source;
  byId("target").textContent = data.target;
  state.layer = map().layers.length - 1;
  state.heads = new Set(map().layers[0].keys());
  drawChoices();
  listen();
  drawPanels();
}

start();
