// What made an answer, drawn from data to answer.

import { chooser, field, get, h, problem, svg } from "./api.js";

const WIDE = 132, HIGH = 76, GAP_X = 28, GAP_Y = 22, LANE = 8, NARROW = 700, LONGEST = 40;
const KINDS = { datasets: "data set", tasks: "task", corpus: "corpus", tokenizer: "tokenizer", tokens: "tokens", base: "base", adapters: "adapter", evaluations: "evaluation" };

export default function view(shared, asked) {
  const place = h("section", { class: "panel picture" });
  const known = shared.answers.map(answer => [answer.id, [answer.model, begins(answer.text), answer.fingerprint].join(" · ")]);
  if (asked && !known.some(([id]) => id === asked)) known.unshift([asked, asked]);
  if (!known.length) {
    return h("div", { class: "stack" }, h("p", { class: "panel empty" }, "Ask a model something first: the picture of its answer is drawn here."));
  }
  const answers = chooser(known, draw);
  answers.value = asked ?? known[0][0];
  async function draw() {
    try {
      const told = await get(`/v1/lineage/${encodeURIComponent(answers.value)}`);
      place.replaceChildren(picture(told), legend(told));
    } catch (error) { place.replaceChildren(problem(error)); }
  }
  draw();
  return h("div", { class: "stack" }, h("div", { class: "panel" }, field("answer", answers)), place);
}

const begins = text => text.trim().length > LONGEST ? `${text.trim().slice(0, LONGEST)}…` : text.trim();

/** Nodes by name, each with what it was made from. */
function nodesOf({ id, chain, record }) {
  const nodes = new Map();
  for (const entry of chain) {
    const name = entry.artifact.replace(/^artifacts\//, "");
    const part = name.split("/");
    const kind = KINDS[part[0]] ?? KINDS[part[1]] ?? "artifact";
    nodes.set(name, { name, kind, text: entry.content.slice(0, 12), from: Object.keys(entry.inputs ?? {}), entry });
    for (const [file, hash] of Object.entries(entry.data ?? {})) {
      nodes.set(file, { name: file, kind: "file", text: String(hash ?? "").slice(0, 12), from: [], entry: null });
      nodes.get(name).from.push(file);
    }
  }
  const last = [record?.adapter?.path, record?.base?.path].filter(path => path && nodes.has(path));
  const template = record?.template ?? record?.adapter?.prompt;
  if (template) {
    const name = `prompt ${template.id ?? template.name}`;
    nodes.set(name, { name: template.id ?? template.name, kind: "prompt", text: `version ${template.version ?? "of the adapter"}`, from: [], entry: null });
    last.push(name);
  }
  nodes.set(id, { name: id.match(/[0-9a-f]{16}/)?.[0].slice(0, 10) ?? id, kind: "answer", text: record?.adapter?.name ?? "base", from: last, entry: null });
  for (const node of nodes.values()) node.from = node.from.filter(each => nodes.has(each));
  return nodes;
}

/** How many steps a node is from what nothing made. */
function depths(nodes) {
  const found = new Map();
  const depth = name => {
    if (!found.has(name)) {
      found.set(name, 0);
      found.set(name, Math.max(-1, ...nodes.get(name).from.map(depth)) + 1);
    }
    return found.get(name);
  };
  for (const name of nodes.keys()) depth(name);
  return found;
}

function picture(told) {
  const nodes = nodesOf(told), depth = depths(nodes);
  for (const [name, node] of nodes)  // what nothing made stands right before what it makes
    if (!node.from.length) {
      const users = [...nodes].filter(([, other]) => other.from.includes(name)).map(([other]) => depth.get(other));
      if (users.length) depth.set(name, Math.min(...users) - 1);
    }
  const down = window.innerWidth < NARROW;
  const along = down ? HIGH + 46 : WIDE + GAP_X, thick = down ? HIGH : WIDE;
  const columns = layered(nodes, depth, down ? WIDE : HIGH);
  const across = stacked(columns, down ? 12 : GAP_Y);
  const items = columns.flat();
  for (const item of items) [item.x, item.y] = down ? [item.begin, item.step * along] : [item.step * along, item.begin];
  const size = [columns.length * along - (along - thick), across];
  const [width, height] = down ? size.reverse() : size;
  const edges = items.flatMap(item => [...item.from].map(from => edge(from, item, down)));
  const boxes = items.map(item => (item.node ? box(item.node, item, WIDE) : lane(item, down)));
  const drawn = svg("svg", { viewBox: `-4 -4 ${width + 8} ${height + 8}`, width: width + 8, height: height + 8, role: "img", "aria-label": "from data to answer" }, edges, boxes);
  return h("div", { class: "scroll" }, drawn);
}

/** Columns of items, each with those that it comes from: a box for a node, and a lane where an edge passes a column by (Sugiyama et al. 1981). */
function layered(nodes, depth, high) {
  const columns = [], items = new Map();
  const item = (key, step, node) => {
    if (!items.has(key)) {
      const made = { node, step, size: node ? high : LANE, from: new Set() };
      items.set(key, made);
      (columns[step] ??= []).push(made);
    }
    return items.get(key);
  };
  for (const [name, node] of [...nodes].sort(([a], [b]) => depth.get(a) - depth.get(b))) {
    const to = item(name, depth.get(name), node);
    for (const from of node.from) {
      let last = items.get(from);
      for (let step = last.step + 1; step < to.step; step++) {
        const passing = item(`${from} past ${step}`, step, null);
        passing.from.add(last);
        last = passing;
      }
      to.from.add(last);
    }
  }
  return columns;
}

/** Where each item begins in its column, near what it comes from; how much room the fullest column takes. */
function stacked(columns, gap) {
  const room = column => column.reduce((sum, item) => sum + item.size + gap, -gap);
  const most = Math.max(...columns.map(room));
  for (const column of columns) {
    const centre = item => {
      const middles = [...item.from].map(from => from.begin + from.size / 2);
      return middles.length ? middles.reduce((a, b) => a + b) / middles.length : most / 2;
    };
    column.sort((a, b) => centre(a) - centre(b));
    let begin = (most - room(column)) / 2;
    for (const item of column) {
      item.begin = begin;
      begin += item.size + gap;
    }
  }
  return most;
}

function edge(a, b, down) {
  const [x1, y1, x2, y2] = down ? [a.x + a.size / 2, a.y + HIGH, b.x + b.size / 2, b.y] : [a.x + WIDE, a.y + a.size / 2, b.x, b.y + b.size / 2];
  const bend = down ? `C${x1} ${(y1 + y2) / 2} ${x2} ${(y1 + y2) / 2}` : `C${(x1 + x2) / 2} ${y1} ${(x1 + x2) / 2} ${y2}`;
  return svg("path", { class: "edge", d: `M${x1} ${y1}${bend} ${x2} ${y2}` });
}

function lane({ x, y, size }, down) {
  const path = down ? `M${x + size / 2} ${y}v${HIGH}` : `M${x} ${y + size / 2}h${WIDE}`;
  return svg("path", { class: "edge", d: path });
}

function box(node, { x, y }, wide) {
  const short = (text, most) => (text.length > most ? `…${text.slice(1 - most)}` : text);
  const letters = Math.floor((wide - 24) / 7);
  const name = node.name.replace(/^[^/]*\/(adapters\/|evaluations\/)?(?=.)/, match => (node.kind === "file" ? match : ""));
  return svg("g", { class: `node ${node.kind.replace(" ", "-")}`, transform: `translate(${x} ${y})` },
    svg("title", {}, `${node.name}\n${node.entry?.content ?? node.text}`),
    svg("rect", { width: wide, height: HIGH, rx: 10 }),
    svg("rect", { class: "edge-mark", width: 4, height: HIGH - 24, x: 0, y: 12, rx: 2 }),
    svg("text", { class: "kind", x: 14, y: 20 }, node.kind),
    svg("text", { class: "title", x: 14, y: 41 }, short(name, letters)),
    svg("text", { class: "hash", x: 14, y: 61 }, short(node.text, letters)));
}

function legend({ record, chain }) {
  const commit = record?.commit, runs = chain.flatMap(entry => entry.runs).length;
  const engine = Object.entries(record?.engine ?? {}).map(([name, version]) => `${name} ${version}`).join(", ");
  const rows = [["workspace", record?.workspace], ["commit", commit], ["runs in MLflow", runs], ["engine", engine]];
  return h("dl", { class: "legend" }, rows.filter(([, value]) => value).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}
