// Into a model: what it expects after each token, where it attends, what a soft prompt resembles.

import { bar, chooser, field, get, h, post, problem, visible } from "./api.js";
import { generates, models } from "./pieces.js";

export default function view(shared) {
  const model = chooser(models(shared, generates), run);
  const text = h("textarea", { rows: 2, "aria-label": "text" });
  text.value = "The plot is not dull, and the music is";
  const expected = h("section", { class: "panel" }), attended = h("section", { class: "panel" }), near = h("section", { class: "panel" });

  function run(event) {
    event?.preventDefault?.();
    expectations(expected, model.value, text.value);
    attention(attended, model.value, text.value);
    neighbours(near, shared.models.find(each => each.id === model.value));
  }
  const form = h("form", { class: "panel ask", onsubmit: run }, field("model", model), field("text", text),
    h("button", { class: "primary" }, "Look inside"));
  run();
  return h("div", { class: "stack" }, form, expected, h("div", { class: "halves" }, attended, near));
}

async function expectations(place, model, prompt) {
  const title = h("h3", {}, "What it expects next");
  try {
    const { positions } = await post("/v1/inspect/predictions", { model, prompt });
    const bars = h("div", { class: "bars" });
    const row = h("div", { class: "tokens", role: "listbox", "aria-label": "positions" });
    const pick = number => {
      [...row.children].forEach((each, other) => each.setAttribute("aria-selected", other === number));
      const { piece, expected: list } = positions[number];
      const follows = positions[number + 1]?.piece;
      bars.replaceChildren(h("p", { class: "soft" }, "after ", h("code", {}, visible(piece)), follows ? [", where the text goes on with ", h("code", {}, visible(follows))] : ", where the text ends"),
        ...list.map(one => bar(visible(one.piece), one.probability, { "data-best": one.piece === follows ? "yes" : "no" })));
    };
    positions.forEach((position, number) => {
      const before = number ? positions[number - 1].next : null;
      const token = h("button", { type: "button", class: "token surprise", role: "option", title: before == null ? "the beginning" : `it gave this token ${(100 * before).toFixed(2)} %`, onclick: () => pick(number) }, h("b", {}, visible(position.piece)));
      // bits of surprise, up to ten, as depth of colour
      token.style.setProperty("--depth", before == null ? 0 : Math.min(-Math.log2(Math.max(before, 1e-6)), 10) / 10);
      row.append(token);
    });
    place.replaceChildren(title, h("p", { class: "soft" }, "The deeper the colour, the less a token was expected. Choose one to see what could have followed it."), row, bars);
    pick(positions.length - 1);
  } catch (error) { place.replaceChildren(title, problem(error)); }
}

async function attention(place, model, prompt, layer = 0, head = 0) {
  const title = h("h3", {}, "Where it attends");
  try {
    const told = await post("/v1/inspect/attention", { model, prompt, layer, head });
    const again = () => attention(place, model, prompt, +layers.value, +heads.value);
    const count = number => [...Array(number).keys()].map(each => [each, each]);
    const layers = chooser(count(told.layers), again), heads = chooser(count(told.heads), again);
    layers.value = told.layer; heads.value = told.head;
    place.replaceChildren(title, h("div", { class: "pair" }, field("layer", layers), field("head", heads)), map(told),
      h("p", { class: "soft" }, "Each row is a token, and says how much of its attention goes to the tokens before it."));
  } catch (error) { place.replaceChildren(title, problem(error)); }
}

/** A table of cells: rows attend to columns, an adapter's virtual tokens first. */
function map({ pieces, weights, virtual }) {
  const names = [...Array.from({ length: virtual }, (_, n) => `▪${n + 1}`), ...pieces.map(visible)];
  const said = h("p", { class: "said", role: "status" }, " ");
  const head = h("tr", {}, h("th"), names.map(name => h("th", { class: "across" }, h("span", {}, name))));
  const rows = weights.map((row, y) => h("tr", {}, h("th", { scope: "row" }, visible(pieces[y])), row.map((weight, x) => {
    const off = x > y + virtual;
    const cell = h("td", { class: off ? "off" : null, title: off ? null : `${visible(pieces[y])} → ${names[x]}: ${(100 * weight).toFixed(1)} %` });
    if (!off) cell.style.setProperty("--weight", Math.sqrt(weight));  // small weights can be told apart
    cell.addEventListener("pointerenter", () => { said.textContent = cell.title || " "; });
    return cell;
  })));
  return h("div", { class: "map" }, h("div", { class: "scroll" }, h("table", { "aria-label": "attention" }, h("thead", {}, head), h("tbody", {}, rows))), said);
}

async function neighbours(place, model) {
  const title = h("h3", {}, "What its soft prompt resembles");
  if (!["prompt_tuning", "p_tuning"].includes(model?.method)) {
    place.replaceChildren(title, h("p", { class: "empty" }, "This model has no soft prompt. Choose one with prompt_tuning or p_tuning."));
    return;
  }
  try {
    const { vectors } = await get(`/v1/inspect/neighbours/${encodeURIComponent(model.id)}`);
    const rows = vectors.map(({ norm, nearest }, number) => h("li", {}, h("span", { class: "number" }, number + 1),
      h("span", { class: "tokens" }, nearest.slice(0, 3).map(({ piece, cosine }) => {
        const token = h("span", { class: "token near", title: `cosine ${cosine.toFixed(3)}` }, h("b", {}, visible(piece)), h("small", {}, cosine.toFixed(2)));
        token.style.setProperty("--depth", Math.max(0, cosine));
        return token;
      })), h("span", { class: "norm", title: "its length, of that of a usual token" }, `×${norm.toFixed(1)}`)));
    place.replaceChildren(title, h("p", { class: "soft" }, "Each learned vector, and the tokens of the vocabulary that point the same way. ×: its length beside a usual token's."), h("ol", { class: "vectors" }, rows));
  } catch (error) { place.replaceChildren(title, problem(error)); }
}
