"use strict";
// All text of the data is shown through textContent or setAttribute: nothing of it is ever read as HTML.
const DATA = JSON.parse(document.getElementById("data").textContent);
const FULL = "full", LINES = [FULL, "untrained"], EVALUATED = "evaluated", ALL = "all", NONE = "–", FAILS = "does not hold";
const MOST_LINES = 8;
const LABELS = { hard: "hard", soft: "soft, fixed", teacher: "per view", projector: "per view, by a projector", targets: "targets", none: "none" };
const DASHES = ["", "6 3", "2 3", "8 3 2 3", "8 3 2 3 2 3"];
const $ = id => document.getElementById(id);

// --- elements

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat(3).filter(child => child !== null && child !== undefined && child !== ""));
  return node;
}
const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

// --- text of values

const points = (pair, sign = "") => !pair ? NONE : plusMinus(...pair, sign);
const known = value => value === null || value === undefined || value === "" ? NONE : String(value);
function scaled(value, units) {
  const [size, unit] = units.find(([least]) => value >= least) || units.at(-1);
  return (value / size).toFixed(1).replace(/\.0$/, "") + " " + unit;
}
const bytes = value => value === null ? NONE : value < 1000 ? value + " B" : scaled(value, [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]]);
const bits = value => value === null ? NONE : value < 1e3 ? Math.round(value) + " bit" : scaled(value, [[1e9, "Gbit"], [1e6, "Mbit"], [1e3, "kbit"]]);
const time = value => value === null ? NONE : value < 0.05 ? "< 0.1 s" : value < 60 ? scaled(value, [[1, "s"]]) : scaled(value, [[3600, "h"], [60, "min"]]);
// as Python writes it: of a tie the even digit
function fixed(value, digits) {
  const exact = Math.abs(value).toFixed(30), end = exact.indexOf(".") + 1 + digits, rounded = Math.abs(value).toFixed(digits);
  return /^50*$/.test(exact.slice(end)) && Number(exact[end - 1]) % 2 === 0 ? exact.slice(0, end) : rounded;
}
// the rule of with_half_width in evaluation/compare.py: never "± 0.0", nor "1.1 ± 1.1", which does not say whether 0 is in it
function plusMinus(value, half, sign = "") {
  if (value === null) return NONE;
  const digits = half !== null && (half < 0.1 || fixed(value, 1) === fixed(half, 1)) ? 2 : 1, shown = fixed(value, digits);
  return (value < 0 && Number(shown) ? "−" : sign) + shown + (half === null ? "" : " ± " + fixed(half, digits));
}
const accuracy = row => row.accuracy === null ? row.status : plusMinus(row.accuracy, row.half);
const group = row => [row.dataset, row.budget, row.protocol, row.network].join("\n");
const TIES = new Map();
for (const row of DATA.rows) if (row.rank) TIES.set(group(row) + row.rank, (TIES.get(group(row) + row.rank) || 0) + 1);
const tied = row => TIES.get(group(row) + row.rank) > 1;
const rank = row => row.rank ? row.rank + (tied(row) ? "=" : "") : NONE;
// a budget: so many images per class or, with %, a part of the training split; in the order of the numbers of images
const inWords = budget => budget.endsWith("%") ? budget : "IPC " + budget;
const budgetOf = row => inWords(row.budget);
const budgetsOf = rows => [...new Map(rows.map(row => [row.budget, row.images]))].map(([budget, images]) => [images, budget]).sort((a, b) => a[0] - b[0]);
const perClass = budgets => "images per class" + (budgets.some(([, budget]) => budget.endsWith("%")) ? ", or % of the training split" : "") + " (log scale)";
const ORIGINS = new Set(DATA.rows.map(row => row.origin));
const isOwn = row => ORIGINS.size > 1 && row.origin === "here";
const SHARED_TIME = "Time is that of a set and of the networks it needs, such as a teacher or experts. Where that of pretraining is unknown, it is in the row that ran first, and in no other.";
const wholeTime = row => row.synthesis_seconds === null ? null : row.synthesis_seconds + (row.pretraining_seconds || 0);
const pretraining = row => row.pretraining_seconds ? `${time(row.pretraining_seconds)} of it pretraining` : row.pretraining_unknown ? "pretraining unknown" : "";

// --- state, which stands in the address so that a view can be shared

const FILTERS = {
  budget: { label: "Budget", text: String, 
    values: rows => budgetsOf(rows.filter(row => row.budget !== null)).map(([, budget]) => budget) }, protocol: { label: "Protocol", text: String },
  labels: { label: "Labels", text: value => LABELS[value] || value }, preset: { label: "Preset", text: String },
  network: { label: "Network", text: String }, origin: { label: "Made", text: String },
};
let state = {};
const ofDataset = () => DATA.rows.filter(row => row.dataset === state.dataset);
// of most rows, one with rows made here if any is; those of images per class come before those of fractions, of which a study has many
function mainProtocol(dataset) {
  const counts = new Map(), all = DATA.rows.filter(row => row.dataset === dataset && !LINES.includes(row.method) && row.protocol);
  const own = new Set(all.filter(isOwn).map(row => row.protocol));
  for (const row of all) if (!own.size || own.has(row.protocol)) {
    const weight = row.budget && !String(row.budget).endsWith("%") ? 1 : 1e-6;
    counts.set(row.protocol, (counts.get(row.protocol) || 0) + weight);
  }
  return [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a))[0] || ALL;
}
function defaults(dataset) {
  const all = Object.fromEntries(Object.keys(FILTERS).map(key => [key, ALL]));
  return { ...all, dataset, protocol: mainProtocol(dataset), q: "", sort: "rank", down: "", open: "" };
}
function readAddress() {
  const asked = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const own = DATA.rows.find(isOwn);
  const dataset = DATA.datasets.includes(asked.dataset) ? asked.dataset : own ? own.dataset : DATA.datasets[0];
  const usual = defaults(dataset);
  state = usual;
  for (const key of Object.keys(usual)) if (key !== "dataset" && asked[key] !== undefined) state[key] = asked[key];
  if (!COLUMNS.some(column => column.key === state.sort)) state.sort = "rank";
}
function address(values) {
  const usual = defaults(values.dataset);
  return "#" + new URLSearchParams(Object.entries(values).filter(([key, value]) => key === "dataset" || value !== usual[key]));
}
function change(values) {
  Object.assign(state, values);
  history.replaceState(null, "", address(state));
  draw();
}

// --- which rows, in which order

function chosen(row, without = "") {
  if (row.dataset !== state.dataset || row.method === FULL && state.protocol !== ALL && state.protocol !== row.protocol) return false;
  for (const key of Object.keys(FILTERS)) {
    if (key === without || state[key] === ALL || row.protocol === null && key !== "budget" && key !== "origin") continue;
    if (String(row[key]) !== state[key]) return false;
  }
  return without === "q" || found(row);
}
// whether what a row shows has every word of the search; a number is a whole word, else 10 would be in every cifar10
const SHOWN = new Map();
function found(row) {
  if (!SHOWN.has(row)) SHOWN.set(row, [row.method, row.budget && inWords(row.budget), row.budget && row.budget.replace(" ", ""), row.strict && "strict", row.preset, row.protocol, row.network,
    row.labels, LABELS[row.labels], row.pixel_space && row.pixel_space + " pixels", row.needs, row.status, row.origin, ...row.suites, ...row.notes].filter(Boolean).join(" ").toLowerCase());
  const text = SHOWN.get(row), words = text.split(/\s+/);
  return state.q.toLowerCase().split(/\s+/).every(word => /^\d+$/.test(word) ? words.includes(word) : text.includes(word));
}
const byRank = (a, b) => (a.images || 1e15) - (b.images || 1e15) || compare(a.budget, b.budget) || compare(a.protocol, b.protocol) || compare(a.network, b.network)
  || (a.rank || 1e9) - (b.rank || 1e9) || (b.accuracy || 0) - (a.accuracy || 0) || compare(a.method, b.method);
function compare(a, b) {
  const missing = value => value === null || value === undefined;
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
}
function ordered(rows) {
  const column = COLUMNS.find(each => each.key === state.sort);
  const absent = row => column.value(row) === null;
  const way = state.down ? -1 : 1;
  if (column.key === "rank" && !state.down) return [...rows].sort(byRank);
  return [...rows].sort((a, b) => absent(a) - absent(b) || way * compare(column.value(a), column.value(b)) || byRank(a, b));
}

// --- the table

const first = pair => pair && pair[0];
const COLUMNS = [
  { key: "budget", label: "Budget", num: true, value: row => row.images, cell: row => known(row.budget), constant: true },
  { key: "rank", label: "Rank", num: true, value: row => row.rank, cell: rank },
  { key: "method", label: "Method", value: row => row.method, cell: methodCell, kind: "method" },
  { key: "accuracy", label: "Accuracy ± (%)", num: true, down: true, value: row => row.accuracy, cell: accuracyCell, kind: "accuracy" },
  { key: "interval", label: "Interval", down: true, value: row => row.half, cell: intervalCell, kind: "wide" },
  { key: "random", label: "vs random", num: true, down: true, value: row => first(row.random), cell: row => points(row.random, "+"), kind: "medium" },
  { key: "gap", label: "Gap to full", num: true, value: row => first(row.gap), cell: row => points(row.gap), kind: "medium" },
  { key: "bytes", label: "Size (bits per class)", num: true, value: row => row.bytes, cell: row => [bytes(row.bytes), row.bits === null ? "" : el("small", {}, `(${bits(row.bits)})`)], kind: "medium" },
  { key: "needs", label: "Needs", value: row => row.needs, cell: row => known(row.needs), kind: "wide", constant: true },
  { key: "time", label: "Synthesis", num: true, value: wholeTime, cell: row => [time(wholeTime(row)), pretraining(row) && el("small", {}, `(${pretraining(row)})`)], kind: "medium", about: SHARED_TIME },
  { key: "seeds", label: "Seeds × networks", num: true, down: true, value: row => row.accuracy === null ? null : row.seeds * row.networks, cell: seedsCell, kind: "medium" },
  { key: "labels", label: "Labels", value: row => row.labels, cell: row => known(LABELS[row.labels] || row.labels), kind: "wide", constant: true },
  { key: "preset", label: "Preset", value: row => row.preset, cell: row => known(row.preset), kind: "wide", constant: true },
  { key: "protocol", label: "Protocol", value: row => row.protocol, cell: row => known(row.protocol), kind: "wide", constant: true },
  { key: "network", label: "Network", value: row => row.network, cell: row => known(row.network), kind: "wide", constant: true },
  { key: "pixels", label: "Pixels", value: row => row.pixel_space, cell: row => known(row.pixel_space), kind: "wide", constant: true },
];
const hereMark = () => el("span", { class: "mark own" }, "here");
const swatch = method => svg("svg", { viewBox: "-7 -7 14 14", class: "swatch", "aria-hidden": "true" }, mark(styleOf(method), 0, 0, 5.5));
function methodCell(row) {
  const open = state.open === row.id;
  return el("div", { class: "name" }, LINES.includes(row.method) ? "" : swatch(row.method),
    el("button", { type: "button", "aria-expanded": String(open), "aria-controls": "d" + row.id, id: "b" + row.id, onclick: () => toggle(row.id) }, row.method),
    isOwn(row) ? [" ", hereMark()] : "");
}
function accuracyCell(row) {
  const doubts = row.notes.map(note => el("span", { class: "doubt" }, note));
  const strict = row.strict ? [" ", el("span", { class: "mark", title: "Hard labels and the protocol's own rate, whatever the set has" }, "strict")] : "";
  return [el("b", { class: "whole" }, accuracy(row)), strict, row.rank === 1 ? el("span", { class: "skip" }, " may be best") : "", doubts];
}
let SCALE = () => 0; // of the intervals of all rows that are shown
function intervalCell(row) {
  if (row.accuracy === null) return "";
  const bar = row.half === null ? "" : svg("line", { x1: SCALE(row.ci_low), x2: SCALE(row.ci_high), y1: 7, y2: 7, style: `stroke:${colourOf(row.method)};stroke-width:2` });
  return svg("svg", { class: "interval", viewBox: "0 0 120 14", "aria-hidden": "true" }, svg("line", { class: "faint", x1: 0, x2: 120, y1: 7, y2: 7 }), bar, mark(styleOf(row.method), SCALE(row.accuracy), 7, 3.4));
}
function seedsCell(row) {
  if (row.accuracy === null) return NONE;
  return el("span", { class: row.seeds === 1 ? "weak" : "" }, `${row.seeds} × ${row.networks}`);
}
function constants(rows) {
  return COLUMNS.filter(column => column.constant && rows.length > 1 && state.sort !== column.key
    && rows.every(row => column.cell(row) === column.cell(rows[0])));
}
function header(column) {
  const sorted = state.sort === column.key;
  const down = sorted ? Boolean(state.down) : false;
  const way = sorted ? (down ? "descending" : "ascending") : "none";
  const next = () => change({ sort: column.key, down: (sorted ? !down : Boolean(column.down)) ? "1" : "" });
  const button = el("button", { type: "button", id: "s-" + column.key, title: column.about, onclick: () => { next(); $("s-" + column.key)?.focus(); } }, column.label);
  return el("th", { scope: "col", "aria-sort": way, class: [column.num ? "num" : "", column.kind || ""].join(" ") }, button);
}
function drawRows() {
  const rows = ordered(DATA.rows.filter(row => chosen(row)));
  const same = constants(rows), scored = rows.filter(row => row.accuracy !== null);
  SCALE = linear(Math.min(...scored.map(row => row.ci_low ?? row.accuracy)), Math.max(...scored.map(row => row.ci_high ?? row.accuracy)), 5, 115);
  const shown = COLUMNS.filter(column => !same.includes(column));
  const separated = state.sort === "rank" && !state.down;
  const body = el("tbody", {});
  rows.forEach((row, index) => {
    const next = separated && index && group(row) !== group(rows[index - 1]);
    const cells = shown.map(column => el(column.key === "method" ? "th" : "td",
      { scope: column.key === "method" ? "row" : null, class: [column.num ? "num" : "", column.kind || ""].join(" ") }, column.cell(row)));
    body.append(el("tr", { "data-id": row.id, class: [next ? "next" : "", row.rank === 1 ? "best" : ""].join(" ") }, cells));
    if (state.open === row.id) body.append(details(row, shown.length));
  });
  const all = same.filter(column => column.cell(rows[0]) !== NONE).map(column => `${column.label} ${column.cell(rows[0])}`).join(" · ");
  const caption = `${state.dataset}: ${rows.length} row${rows.length === 1 ? "" : "s"}${all ? ". In all of them: " + all : ""}. A method opens its row.`;
  $("rows").replaceChildren(el("caption", {}, caption), el("thead", {}, el("tr", {}, shown.map(header))), body);
  $("said").replaceChildren(...(rows.length ? [`${rows.length} of ${ofDataset().length} rows`] : ["No row fits these filters. ", ...widenings()]));
  return rows;
}
// of each filter without which rows would fit: a button that takes it away
function widenings() {
  const all = { ...Object.fromEntries(Object.entries(FILTERS).map(([key, { label, text }]) => [key, [`${label} ${text(state[key])}`, ALL]])), q: [`the search for ${state.q}`, ""] };
  return Object.entries(all).filter(([key, [, none]]) => state[key] !== none).map(([key, [name, none]]) => {
    const count = DATA.rows.filter(row => chosen(row, key)).length;
    const widen = () => { change({ [key]: none }); $(key === "q" ? "q" : "f-" + key).focus(); };
    return count ? [el("button", { type: "button", onclick: widen }, `Without ${name}: ${count} row${count === 1 ? "" : "s"}`), " "] : [];
  }).flat();
}
// the row of a mark in a chart; its link has the same place in the address
function openRow(row, event) {
  event.preventDefault();
  change({ open: row.id });
  const button = $("b" + row.id);
  button.scrollIntoView({ block: "center" });
  button.focus();
}
function toggle(id) {
  change({ open: state.open === id ? "" : id });
  $("b" + id)?.focus();
}

// --- an opened row

function pairs(values) {
  return el("dl", {}, Object.entries(values).filter(([, value]) => value !== null && value !== "")
    .map(([key, value]) => [el("dt", {}, key), el("dd", {}, value)]));
}
function details(row, width) {
  const parts = [commandsOf(row), el("div", { class: "grid" }, pictureOf(row), figuresOf(row), seedsOf(row), recipeOf(row), versionsOf(row))];
  return el("tr", { class: "details", id: "d" + row.id }, el("td", { colspan: width }, el("div", { class: "opened" }, parts)));
}
function commandsOf(row) {
  if (!row.commands.length) return "";
  const text = row.commands.join("\n");
  const copy = event => copyText(text, event.currentTarget);
  return el("section", {}, el("h3", {}, "Make it again"), el("pre", {}, text), el("button", { type: "button", onclick: copy }, "Copy"));
}
function copyText(text, button) {
  const done = said => { button.textContent = said; };
  if (navigator.clipboard) navigator.clipboard.writeText(text).then(() => done("Copied"), () => done("Select the text instead"));
  else done("Select the text instead");
}
function enlarge(event) {
  const image = event.target, times = Math.max(1, Math.floor(360 / image.naturalWidth));
  image.width = image.naturalWidth * times;
}
function pictureOf(row) {
  const score = row.scores.find(each => DATA.pictures[each.set]);
  if (!score) return "";
  const image = el("img", { src: DATA.pictures[score.set], alt: `Images of the set of ${row.method} at ${budgetOf(row)}, a column a class`, onload: enlarge });
  return el("section", {}, el("h3", {}, `The set of seed ${score.seed}, a column a class`), image);
}
function figuresOf(row) {
  return el("section", {}, el("h3", {}, "Figures"), pairs({
    Accuracy: accuracy(row), "Behind the highest": row.behind && points(row.behind), "vs random": points(row.random, "+"), "Gap to full": points(row.gap),
    Size: `${bytes(row.bytes)}${row.bits === null ? "" : `, ${bits(row.bits)} per class`}`, "Needs besides": row.needs, Synthesis: [time(wholeTime(row)), pretraining(row)].filter(Boolean).join(", "),
    "Peak memory": row.peak_memory_mb === null ? null : Math.round(row.peak_memory_mb) + " MB", Labels: known(LABELS[row.labels] || row.labels),
    Preset: known(row.preset), Protocol: known(row.protocol), Network: known(row.network), Pixels: known(row.pixel_space),
    Made: row.origin, Suites: row.suites.join(", "), Doubts: row.notes.join("; "),
    Published: row.claim && `${claimed(row.claim)} (${row.claim.paper}: ${row.claim.source})`, "Does it hold": row.claim && verdict(row.claim), Why: row.claim && row.claim.why.join("; "),
  }));
}
function seedsOf(row) {
  const lines = row.scores.map(score => el("tr", {}, el("td", {}, known(score.seed)), el("td", {}, score.accuracies.map(each => each.toFixed(2)).join("  ")),
    el("td", { class: "num" }, score.mean.toFixed(2)), el("td", {}, score.set ? score.set.slice(0, 12) : NONE)));
  const head = ["Seed", "Each network (%)", "Mean", "Set (sha256)"].map(text => el("th", { scope: "col" }, text));
  return el("section", {}, el("h3", {}, "Networks by seed"), el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, lines))));
}
function recipeOf(row) {
  const about = DATA.methods[row.method] || {}, recipe = DATA.recipes[row.recipe];
  const paper = about.paper && el("p", {}, about.title, ". ", about.link ? el("a", { href: about.link, rel: "noreferrer" }, about.paper) : about.paper);
  if (!recipe) return el("section", {}, el("h3", {}, "Recipe"), paper || "", el("p", {}, "Its file says none."));
  const lines = recipe.fields.map(([key, value, place]) => el("tr", {}, el("td", {}, key), el("td", {}, typeof value === "object" ? JSON.stringify(value) : String(value)),
    el("td", {}, place === null ? NONE : recipe.tables[place][0])));
  const sources = Object.fromEntries(recipe.tables.map(([name, comment]) => [name, comment || NONE]));
  const head = ["Field", "Value", "From table"].map(text => el("th", { scope: "col" }, text));
  return el("section", {}, el("h3", {}, "Recipe"), paper || "",
    el("details", {}, el("summary", {}, `${lines.length} values`), el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, lines))),
    el("details", {}, el("summary", {}, "Where they come from"), pairs(sources)));
}
function versionsOf(row) {
  return el("section", {}, el("h3", {}, "Made with"), pairs(Object.fromEntries(Object.entries(row.versions).map(([key, values]) => [key.replace("_", " "), values.join(", ")]))));
}

// --- filters, datasets, what is best

function drawFilters() {
  const selects = Object.entries(FILTERS).map(([key, about]) => {
    const values = about.values ? about.values(ofDataset()) : [...new Set(ofDataset().map(row => row[key]).filter(value => value !== null))].sort(compare).map(String);
    if (key === "origin" && ORIGINS.size < 2) return "";
    const fitting = DATA.rows.filter(row => chosen(row, key)).map(row => String(row[key])), count = value => fitting.filter(each => each === value).length;
    const options = [ALL, ...values].map(value => el("option", { value, selected: state[key] === value }, value === ALL ? "all" : `${about.text(value)} (${count(value)})`));
    return el("label", {}, about.label, el("select", { id: "f-" + key, onchange: event => { change({ [key]: event.target.value }); $("f-" + key).focus(); } }, options));
  });
  const sorts = COLUMNS.map(column => el("option", { value: column.key, selected: state.sort === column.key }, column.label));
  const sort = el("select", { id: "f-sort", onchange: event => { const key = event.target.value; change({ sort: key, down: COLUMNS.find(each => each.key === key).down ? "1" : "" }); $("f-sort").focus(); } }, sorts);
  const reset = el("button", { type: "button", id: "reset", onclick: () => { change(defaults(state.dataset)); $("q").value = ""; $("reset").focus(); } }, "Reset");
  const search = $("q") || el("input", { id: "q", type: "search", autocomplete: "off", value: state.q, oninput: event => change({ q: event.target.value }) });
  const form = $("filters");
  const typing = document.activeElement === search;
  form.replaceChildren(el("label", {}, "Search", search), ...selects.filter(Boolean), el("label", {}, "Sort by", sort), reset);
  if (typing) search.focus();
  else search.value = state.q;
}
function drawDatasets() {
  $("datasets").replaceChildren(...DATA.datasets.map(name => {
    const count = DATA.rows.filter(row => row.dataset === name).length;
    return el("a", { href: address(defaults(name)), "aria-current": name === state.dataset ? "true" : null }, `${name} (${count})`);
  }));
  $("board-title").textContent = "Board: " + state.dataset;
}
// of the rows that are shown: a study's own, on its networks, are none of the others'
function drawReference() {
  const rows = ofDataset().filter(row => row.method !== FULL && chosen(row));
  const stands = full => rows.some(row => row.network === full.network && row.suites.some(name => full.suites.includes(name) || name === EVALUATED && row.full === full.accuracy));
  const full = ofDataset().filter(row => row.method === FULL && (row.network === null || stands(row)));
  $("reference").textContent = full.map(row => `Whole training split: ${accuracy(row)}${row.accuracy === null ? "" : " %"} (${known(row.protocol)}, ${known(row.network)}${row.networks === 1 ? ", one network" : ""}).`).join(" ");
}
function drawGlance() {
  const groups = new Map();
  for (const row of DATA.rows) if (row.rank) {
    const key = [row.dataset, row.protocol, row.network].join("\n");
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(row);
  }
  const kept = [...groups.values()].filter(rows => new Set(rows.map(row => row.method)).size > 2);
  // of several datasets: a number of images per class is another number of images in each
  const budgets = [...new Set(kept.flat().map(row => row.budget))].sort((a, b) => a.endsWith("%") - b.endsWith("%") || compare(a, b));
  const head = ["Dataset", ...budgets.map(inWords)].map(text => el("th", { scope: "col" }, text));
  const lines = kept.map(rows => el("tr", {}, el("th", { scope: "row" }, rows[0].dataset, el("small", {}, `${rows[0].protocol}, ${rows[0].network}`)),
    budgets.map(budget => glanceCell(budget, rows.filter(row => row.budget === budget)))));
  $("glance").replaceChildren(el("caption", {}, "The highest accuracy, and how many rows share its rank. A cell opens its rows."), el("thead", {}, el("tr", {}, head)), el("tbody", {}, lines));
}
const SHORT = { soft: "soft", teacher: "per view" };
const withLabels = row => row.method + (row.strict ? " (strict)" : row.labels === "hard" ? "" : ` (${SHORT[row.labels] || row.labels})`);
const glanceCell = (budget, rows) => el("td", { "data-label": inWords(budget), class: rows.length ? "" : "none" }, rows.length ? bestOf(rows) : NONE);
function bestOf(rows) {
  const best = rows.filter(row => row.rank === 1).sort((a, b) => b.accuracy - a.accuracy), top = best[0];
  const own = isOwn(top) ? null : rows.filter(isOwn).sort((a, b) => b.accuracy - a.accuracy)[0];
  const others = best.slice(1, 3).map(withLabels).join(", ") + (best.length > 3 ? ` and ${best.length - 3} more` : "");
  const link = address({ ...defaults(top.dataset), protocol: top.protocol, budget: top.budget, network: top.network });
  const said = best.length > 1 ? `tie of ${best.length} with ${others}` : rows.length > 1 ? "resolved from all others" + (top.seeds === 1 ? ", as sets of one seed" : "") : "the only row";
  return [el("a", { href: link, onclick: () => $("board-title").scrollIntoView() }, withLabels(top), " ", el("span", { class: "whole" }, accuracy(top))), isOwn(top) ? [" ", hereMark()] : "", el("small", {}, said),
    own ? el("small", {}, hereMark(), ` ${withLabels(own)} ${accuracy(own)}, rank ${rank(own)}`) : ""];
}
function claimed(claim) {
  const std = claim.claimed_std === null ? "" : `, std ${claim.claimed_std}`, networks = claim.claimed_networks === null ? "" : `, ${claim.claimed_networks} networks`;
  return `${claim.claimed}${std}${networks}`;
}
// where a claim does not hold: on which side of it the measurement lies
function verdict(claim) {
  const side = claim.difference > 0 ? "above" : "below";
  return claim.verdict === FAILS ? `${claim.verdict}: measured ${side}` : claim.verdict;
}
function claimsTable(rows, caption) {
  const columns = ["Method", "Budget", "Measured (%)", "Claimed (%)", "Difference", "Verdict", "Protocol", "Pixels", "Claimed where", "Why"];
  const lines = rows.map(row => el("tr", {}, el("th", { scope: "row", class: "method" }, el("div", { class: "name" }, LINES.includes(row.method) ? "" : swatch(row.method), el("span", {}, withLabels(row)))),
    [known(row.budget), accuracy(row), claimed(row.claim), points([row.claim.difference, row.claim.margin], "+"), verdict(row.claim), known(row.protocol), known(row.pixel_space),
      `${row.claim.paper}, ${row.claim.claimed_protocol}: ${row.claim.source}`, [...row.claim.why, ...row.notes].join("; ")].map((text, i) => el("td", { class: "claim" + i, "data-label": columns[i + 1] }, text))));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, el("table", { class: "cards" }, el("caption", {}, caption),
    el("thead", {}, el("tr", {}, columns.map(text => el("th", { scope: "col" }, text)))), el("tbody", {}, lines)));
}
function drawClaims() {
  const rows = ofDataset().filter(row => row.claim).sort(byRank);
  const [same, other] = [true, false].map(comparable => rows.filter(row => row.claim.comparable === comparable));
  const said = same.length ? claimsTable(same, `${state.dataset}: claims that were measured as the paper says`)
    : el("p", {}, `${state.dataset}: nothing here was measured as a paper says that it did.`);
  const more = other.length ? el("details", {}, el("summary", {}, `${other.length} more, measured under other conditions: context, not a comparison`),
    claimsTable(other, `${state.dataset}: claims under other conditions than the row's`)) : "";
  $("claims").replaceChildren(...[said, more].filter(Boolean));
}

// --- charts

const styleOf = method => DATA.methods[method] || { family: "", colour: DATA.palette.length - 1, dash: 0, shape: "circle" };
const colourOf = method => `var(--c${styleOf(method).colour})`;
const SHAPES = {
  circle: r => `M ${-r} 0 a ${r} ${r} 0 1 0 ${2 * r} 0 a ${r} ${r} 0 1 0 ${-2 * r} 0 z`, square: r => `M ${-r} ${-r} h ${2 * r} v ${2 * r} h ${-2 * r} z`,
  triangle: r => `M 0 ${-r} L ${r} ${r} L ${-r} ${r} z`, diamond: r => `M 0 ${-1.2 * r} L ${1.2 * r} 0 L 0 ${1.2 * r} L ${-1.2 * r} 0 z`,
  wedge: r => `M 0 ${r} L ${r} ${-r} L ${-r} ${-r} z`,
  hexagon: r => `M ${-1.1 * r} 0 L ${-0.55 * r} ${-r} H ${0.55 * r} L ${1.1 * r} 0 L ${0.55 * r} ${r} H ${-0.55 * r} z`,
  plus: r => `M ${-0.4 * r} ${-1.2 * r} H ${0.4 * r} V ${-0.4 * r} H ${1.2 * r} V ${0.4 * r} H ${0.4 * r} V ${1.2 * r} H ${-0.4 * r} V ${0.4 * r} H ${-1.2 * r} V ${-0.4 * r} H ${-0.4 * r} z`,
  pentagon: r => `M 0 ${-1.2 * r} L ${1.1 * r} ${-0.4 * r} L ${0.7 * r} ${r} L ${-0.7 * r} ${r} L ${-1.1 * r} ${-0.4 * r} z`,
  cross: r => `M ${-r} ${-r} L ${r} ${r} M ${-r} ${r} L ${r} ${-r}`,
};
function mark(style, x, y, r, title = "") {
  const colour = `var(--c${style.colour})`;
  const inside = style.dash || style.shape === "cross" ? "var(--paper)" : colour;
  return svg("path", { d: SHAPES[style.shape](r), transform: `translate(${x} ${y})`, style: `fill:${inside};stroke:${colour};stroke-width:1.8` }, title && svg("title", {}, title));
}
function axes(box, x, y, xTicks, yTicks, xName, xText) {
  const across = yTicks.map(tick => [svg("line", { class: "faint", x1: box.left, x2: box.right, y1: y(tick), y2: y(tick) }), svg("text", { class: "axis", x: box.left - 6, y: y(tick) + 4, "text-anchor": "end" }, String(tick))]);
  const below = xTicks.map(tick => svg("text", { class: "axis", x: x(tick), y: box.bottom + 16, "text-anchor": "middle" }, xText(tick)));
  return svg("g", {}, across, below, svg("text", { class: "axis", x: box.left, y: box.bottom + 33 }, xName));
}
function ticks(low, high) {
  const step = [0.2, 0.5, 1, 2, 5, 10, 20].find(each => (high - low) / each <= 6) || 25;
  const first = Math.ceil(low / step - 1e-9), count = Math.floor(high / step + 1e-9) - first + 1;
  return Array.from({ length: count }, (_, index) => Number(((first + index) * step).toFixed(1)));
}
// of means and intervals, but for random's: its wide bars end at the panel's edge
const isRandom = row => DATA.random.includes(row.method);
function range(rows) {
  const values = rows.flatMap(row => [row.accuracy, row.full ?? row.accuracy, ...(isRandom(row) ? [] : [row.ci_low ?? row.accuracy, row.ci_high ?? row.accuracy])]);
  const low = Math.min(...values), high = Math.max(...values), margin = Math.max(0.5, (high - low) * 0.06);
  return [Math.max(0, low - margin), Math.min(100.5, high + margin)];
}
const linear = (low, high, from, to) => value => from + (value - low) / (high - low || 1) * (to - from);
const logarithmic = (low, high, from, to) => { const scale = linear(Math.log(low), Math.log(high), from, to); return value => scale(Math.log(value)); };

// labels at the right end, moved apart until none covers another
function apart(labels, top, bottom, least = 13) {
  labels.sort((a, b) => a.y - b.y);
  labels.forEach((label, i) => { label.at = i ? Math.max(label.y, labels[i - 1].at + least) : Math.max(top, label.y); });
  for (let i = labels.length - 1, end = bottom; i >= 0; i--, end = labels[i + 1].at - least) labels[i].at = Math.min(labels[i].at, end);
  return labels;
}
const PEN = document.createElement("canvas").getContext("2d");
PEN.font = "12px system-ui, sans-serif"; // of svg text in the style
const widthOf = text => PEN.measureText(text).width;
// a text without its middle, where it has less room than it takes
function within(text, room) {
  let shown = text;
  for (let kept = text.length - 1; kept > 2 && widthOf(shown) > room; kept--) shown = text.slice(0, Math.ceil(kept / 2)) + "…" + text.slice(-Math.floor(kept / 2));
  return shown;
}
// the shortest names by which the lines of one panel are told apart
function nameCurves(curves) {
  for (const curve of curves) {
    const key = ["method", "withLabels", "name"].find(each => curves.every(other => other === curve || other[each] !== curve[each]));
    curve.label = curve[key];
  }
  return curves;
}
// in place of a look that another line of the panel has the next dash, and then the next shape, as told_apart in colours.py
function tellApart(curves) {
  const taken = new Set(), shapes = Object.keys(SHAPES);
  for (const curve of curves) {
    const own = styleOf(curve.method), first = shapes.indexOf(own.shape);
    const looks = shapes.flatMap((_, i) => DASHES.map((_, j) => ({ ...own, dash: (own.dash + j) % DASHES.length, shape: shapes[(first + i) % shapes.length] })));
    const look = each => [each.colour, each.dash, each.shape].join();
    curve.style = looks.find(each => !taken.has(look(each)));
    taken.add(look(curve.style));
  }
}
// Of random images suites score unlike numbers of seeds, which makes several rows of one budget: one line has that of most.
function inOneLine(rows) {
  const kept = new Map(), key = row => [row.method, row.labels, row.origin, row.budget, presetOf(row)].join("\n");
  for (const row of rows) if (!kept.has(key(row)) || kept.get(key(row)).seeds < row.seeds) kept.set(key(row), row);
  return rows.filter(row => !isRandom(row) || kept.get(key(row)) === row);
}
// of random images without the names of suites that found something else
const presetOf = row => isRandom(row) ? String(row.preset).replace(/ \(.*\)$/, "") : row.preset;
function curvesOf(all) {
  const rows = inOneLine(all);
  const several = new Set(rows.map(presetOf)).size > 1;
  const found = new Map();
  for (const row of rows) {
    const name = withLabels(row) + (several ? `, ${presetOf(row)}` : "") + (isOwn(row) ? ", here" : "");
    if (!found.has(name)) found.set(name, { name, method: row.method, withLabels: withLabels(row), labels: row.labels, rows: [] });
    found.get(name).rows.push(row);
  }
  for (const curve of found.values()) curve.rows.sort((a, b) => a.images - b.images);
  return [...found.values()];
}
function panelsOf(rows) {
  const curves = curvesOf(rows);
  const panels = [];
  for (const family of DATA.families) {
    const own = curves.filter(curve => styleOf(curve.method).family === family && !isRandom(curve));
    const alike = curves.filter(curve => isRandom(curve) && own.some(each => each.labels === curve.labels));
    const beside = alike.length ? alike : curves.filter(curve => isRandom(curve) && curve.labels === "hard");
    const room = Math.max(1, MOST_LINES - 1 - beside.length);
    own.sort((a, b) => styleOf(a.method).colour - styleOf(b.method).colour || compare(a.name, b.name));
    const parts = Math.ceil(own.length / room), size = Math.ceil(own.length / parts);
    for (let i = 0; i < parts; i++) panels.push({ title: family + (parts > 1 ? ` (${i + 1} of ${parts})` : ""), curves: [...beside, ...own.slice(i * size, (i + 1) * size)] });
  }
  if (!panels.length) for (let i = 0; i < curves.length; i += MOST_LINES) panels.push({ title: "random", curves: curves.slice(i, i + MOST_LINES) });
  panels.forEach(panel => tellApart(panel.curves = panel.curves.map(curve => ({ ...curve }))));
  return panels;
}
const WIDE = 430, TO_LABEL = 18, LONGEST = 210; // of a panel, from its axes to the labels, and of a label
function drawPanel(panel, budgets, full) {
  const names = nameCurves(panel.curves).map(curve => within(curve.label, LONGEST));
  const room = Math.max(...[...names, "full"].map(widthOf)) + TO_LABEL + 4;
  const box = { left: 36, right: Math.min(290, WIDE - room), top: 8, bottom: 230 }, [low, high] = range(panel.curves.flatMap(curve => curve.rows));
  const y = linear(low, high, box.bottom, box.top);
  const x = budgets.length > 1 ? logarithmic(budgets[0][0], budgets.at(-1)[0], box.left + 14, box.right - 10) : () => (box.left + box.right) / 2;
  const lines = panel.curves.map((curve, index) => drawCurve(curve, value => x(value) + (index - panel.curves.length / 2) * 2, y, [low, high]));
  lines[0][2][0].setAttribute("tabindex", "0");
  const ends = panel.curves.map((curve, index) => ({ text: names[index], title: curve.name, colour: colourOf(curve.method), y: y(curve.rows.at(-1).accuracy), x: x(curve.rows.at(-1).images) }));
  if (full !== null) ends.push({ text: "full", colour: "var(--ink)", y: y(full), x: box.right });
  const labels = apart(ends, box.top + 4, box.bottom).map(label => [
    svg("path", { d: `M ${label.x + 7} ${label.y} H ${box.right + 2} L ${box.right + 14} ${label.at}`, style: `stroke:${label.colour};fill:none;opacity:.6`, "stroke-dasharray": "1 3" }),
    svg("text", { x: box.right + TO_LABEL, y: label.at + 4 }, label.text, label.title && svg("title", {}, label.title))]);
  const said = panel.curves.map(curve => curve.name + ": " + curve.rows.map(row => `${accuracy(row)} at ${budgetOf(row)}`).join(", ")).join("; ");
  return el("figure", {}, el("figcaption", {}, panel.title), svg("svg", { class: "chart", viewBox: `0 0 ${WIDE} 268`, role: "group", "aria-label": `${panel.title}. ${said}`, onkeydown: nextMark },
    axes(box, x, y, budgets.map(first), ticks(low, high), perClass(budgets), images => budgets.find(([size]) => size === images)[1]),
    full === null ? "" : svg("line", { class: "full", x1: box.left, x2: box.right, y1: y(full), y2: y(full) }), lines, labels));
}
function drawCurve(curve, x, y, [low, high]) {
  const colour = colourOf(curve.method), at = row => `${x(row.images)} ${y(row.accuracy)}`;
  const bars = curve.rows.filter(row => row.ci_low !== null).map(row => svg("line", { x1: x(row.images), x2: x(row.images), y1: y(Math.max(row.ci_low, low)), y2: y(Math.min(row.ci_high, high)), style: `stroke:${colour};stroke-width:1.3` }));
  const line = svg("path", { d: "M " + curve.rows.map(at).join(" L "), style: `fill:none;stroke:${colour};stroke-width:2`, "stroke-dasharray": DASHES[curve.style.dash] || null });
  return [bars, line, curve.rows.map(row => markLink(row, curve.style, x(row.images), y(row.accuracy), 3.6, `${curve.name}, ${budgetOf(row)}: ${accuracy(row)} %`))];
}
const conditions = row => [row.protocol, row.network, row.pixel_space].join(" · ");
function drawn(without) {
  const rows = DATA.rows.filter(row => chosen(row, without) && !LINES.includes(row.method) && row.accuracy !== null);
  const stored = new Set(rows.filter(row => !row.strict).map(row => row.method + conditions(row)));
  return rows.filter(row => !row.strict || !stored.has(row.method + conditions(row)));
}
function drawCurves() {
  const rows = drawn("budget"), blocks = [];
  for (const name of [...new Set(rows.map(conditions))]) {
    const own = rows.filter(row => conditions(row) === name), budgets = budgetsOf(own);
    const full = own.find(row => row.full !== null)?.full ?? null;
    blocks.push(el("h3", {}, name + " pixels"), el("div", { class: "panels" }, panelsOf(own).map(panel => drawPanel(panel, budgets, full))), el("p", {}, OPENED));
  }
  $("curves").replaceChildren(...(blocks.length ? blocks : [el("p", {}, "Nothing to draw under these filters.")]));
}
const OPENED = "A mark opens its row; the arrow keys go from mark to mark. ";
function front(rows, cost) {
  let best = -1;
  return [...rows].sort((a, b) => cost(a) - cost(b) || b.accuracy - a.accuracy).filter(row => row.accuracy > best && (best = row.accuracy) >= 0);
}
const SECONDS = [0.1, 1, 10, 60, 600, 3600, 36000, 360000], POWERS = Array.from({ length: 14 }, (_, i) => [1, 2, 5].map(each => each * 10 ** i)).flat();
function drawCost(all, title, cost, text, round) {
  const rows = all.filter(row => cost(row) !== null), box = { left: 40, right: 600, top: 24, bottom: 330 };
  if (!rows.length) return "";
  const costs = rows.map(cost), least = Math.min(...costs), most = Math.max(...costs, least * 2), [low, high] = range(rows.map(row => ({ ...row, full: null })));
  const x = logarithmic(least, most, box.left + 10, box.right - 60), y = linear(low, high, box.bottom, box.top), best = front(rows, cost);
  const steps = best.map((row, i) => `${i ? `H ${x(cost(row))} V` : `M ${x(cost(row))}`} ${y(row.accuracy)}`).join(" ") + ` H ${box.right}`;
  const marks = [...rows].sort((a, b) => cost(a) - cost(b)).map(row => markLink(row, styleOf(row.method), x(cost(row)), y(row.accuracy), 4.2, `${withLabels(row)}, ${budgetOf(row)}: ${accuracy(row)} %, ${text(cost(row))}`));
  marks[0].setAttribute("tabindex", "0");
  const labels = placed(best.map(row => ({ x: x(cost(row)), y: y(row.accuracy), text: `${row.method} ${row.budget}` })));
  const inside = round.filter(each => each >= least * 0.98 && each <= most * 1.02), values = inside.length > 1 ? inside : [least, most];
  const said = "Pareto front: " + best.map(row => `${withLabels(row)} ${budgetOf(row)} ${accuracy(row)} at ${text(cost(row))}`).join("; ");
  return el("figure", {}, el("figcaption", {}, "Accuracy (%) against " + title), svg("svg", { class: "chart", viewBox: "0 0 610 372", role: "group", "aria-label": said, onkeydown: nextMark },
    axes(box, x, y, values, ticks(low, high), title + " (log scale)", text), svg("path", { d: steps, style: "fill:none;stroke:var(--soft);stroke-width:1.5" }), marks, labels));
}
const isNarrow = () => matchMedia("(max-width: 700px)").matches;
// a mark of a size, within an area twice as large that a pointer finds, or a finger
function markLink(row, style, x, y, size, said) {
  return svg("a", { class: "point", href: address({ ...state, open: row.id }), tabindex: -1, "aria-label": said, onclick: event => openRow(row, event) },
    svg("circle", { cx: x, cy: y, r: isNarrow() ? 14 : 2 * size, style: "fill:transparent" }), mark(style, x, y, size, said));
}
// one mark of a chart is in the order of the Tab key, the arrow keys go on from it to the others: by rising cost, or line by line
function nextMark(event) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  const marks = [...event.currentTarget.querySelectorAll("a.point")], from = marks.indexOf(event.target), to = marks[from + step];
  if (!step || from < 0) return;
  event.preventDefault();
  if (!to) return;
  event.target.setAttribute("tabindex", "-1");
  to.setAttribute("tabindex", "0");
  to.focus();
}
// the labels of the front stand above its marks, to the left; one that would cover another is left out: its mark has a title
function placed(labels) {
  const kept = [], larger = isNarrow() ? 17 / 12 : 1; // as the style has the texts of wide panels
  for (const { x, y, text } of labels.reverse()) {
    const width = widthOf(text) * larger, from = Math.max(x - 7 - width, 44);
    if (!kept.some(other => Math.abs(other.y - y) < 13 * larger && from < other.to && other.from < from + width)) kept.push({ from, to: from + width + 6, y, text });
  }
  return kept.map(({ from, y, text }) => svg("text", { x: from, y: y - 7 }, text));
}
function drawCosts() {
  const rows = drawn(), known = rows.some(row => row.bits !== null);
  const blocks = [...new Set(rows.map(conditions))].map(name => {
    const own = rows.filter(row => conditions(row) === name);
    const size = known ? drawCost(own, "bits per class", row => row.bits, bits, POWERS) : drawCost(own, "bytes", row => row.bytes, bytes, POWERS);
    const panels = [size, drawCost(own, "synthesis time", row => wholeTime(row) === null ? null : Math.max(0.1, wholeTime(row)), time, SECONDS)];
    return [el("h3", {}, name + " pixels"), el("div", { class: "panels wide-panels" }, panels), el("p", {}, "A label is the method and its budget. " + OPENED + SHARED_TIME)];
  });
  $("costs").replaceChildren(...(blocks.length ? blocks.flat() : [el("p", {}, "Nothing to draw under these filters.")]));
}

// --- light and dark, and everything together

const THEMES = ["system", "light", "dark"];
function remembered(value) {
  try { return value ? localStorage.setItem("theme", value) : localStorage.getItem("theme"); } catch { return null; }
}
function showTheme(name) {
  document.documentElement.dataset.theme = name;
  $("theme").textContent = "Theme: " + name;
}
$("theme").addEventListener("click", () => {
  const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
  showTheme(next);
  remembered(next);
});
document.querySelector("a.skip").addEventListener("click", event => { event.preventDefault(); $("board").focus(); $("board").scrollIntoView(); });
// which tables are wider than their place: the style says so beside them
function markWider() {
  for (const node of document.querySelectorAll(".scroll")) node.toggleAttribute("data-wider", node.scrollWidth > node.clientWidth + 1);
}
function draw() {
  drawDatasets();
  drawFilters();
  drawReference();
  drawRows();
  drawCurves();
  drawCosts();
  drawClaims();
  markWider();
}
window.addEventListener("resize", markWider);
document.addEventListener("toggle", markWider, true); // of the details elements, whose tables had no width until then
window.addEventListener("hashchange", () => { readAddress(); draw(); });
showTheme(THEMES.includes(remembered()) ? remembered() : "system");
readAddress();
drawGlance();
draw();
