// Two to four models on one input: labels with probabilities, or texts; scores, speed, fingerprint.

import { bar, field, h, post, problem, stream } from "./api.js";
import { facts, generates, templateFields, title } from "./pieces.js";

const MOST = 4, FEWEST = 2;

export default function view(shared) {
  const labelled = shared.models.filter(model => model.available && model.labels.length);
  let mode = labelled.length >= FEWEST ? "labels" : "texts";
  const input = h("textarea", { rows: 3, placeholder: "One text for all of them …", "aria-label": "input" });
  const template = templateFields(shared);
  const picks = h("div", { class: "picks", role: "group", "aria-label": "models" });
  const cards = h("section", { class: "cards" });
  const go = h("button", { class: "primary" }, "Compare");
  const note = h("p", { class: "soft" });
  const modes = h("div", { class: "switch", role: "group", "aria-label": "what to compare" },
    ["labels", "texts"].map(name => h("button", { type: "button", onclick: () => pick(name) }, name)));

  const able = () => shared.models.filter(model => (mode === "labels" ? model.labels.length : generates(model)));
  const chosen = () => [...picks.querySelectorAll("input:checked")].map(box => box.value);

  function limit() {
    const count = chosen().length;
    for (const box of picks.querySelectorAll("input"))
      box.disabled = box.dataset.away === "yes" || (!box.checked && count >= MOST);
    go.disabled = count < FEWEST;
    note.textContent = count < FEWEST ? "Choose two to four models." : "";
  }

  function pick(name) {
    mode = name;
    for (const button of modes.children) button.setAttribute("aria-pressed", button.textContent === name);
    template.element.hidden = mode === "labels";
    const list = able();
    const best = [...list].filter(model => model.available)
      .sort((a, b) => (b.score?.score ?? 0) - (a.score?.score ?? 0)).slice(0, 3).map(model => model.id);
    picks.replaceChildren(...list.map(model => {
      const box = h("input", { type: "checkbox", value: model.id, "data-away": model.available ? "no" : "yes", onchange: limit });
      box.checked = best.includes(model.id);
      return h("label", { class: "pick", title: model.reason ?? title(model) }, box, h("span", {}, model.id));
    }));
    cards.replaceChildren();
    limit();
  }

  function run(event) {
    event.preventDefault();
    const call = mode === "texts" ? template.call() : null;
    if (!input.value && !call) return input.focus();
    cards.replaceChildren(...chosen().map(id => card(shared.models.find(model => model.id === id), call)));
  }

  function card(model, call) {
    const body = h("div", { class: "body" }, h("p", { class: "soft" }, "…"));
    const element = h("article", {}, h("h3", {}, model.id), h("p", { class: "kind" }, model.method ?? "the base, as it is"), score(model), body);
    (mode === "labels" ? label : write)(model, call, body)
      .then(seen => { element.append(facts(seen)); shared.answered(seen); })
      .catch(error => body.replaceChildren(problem(error)));
    return element;
  }

  async function label(model, _call, body) {
    const started = performance.now(), given = input.value;
    const told = await post("/v1/classify", { model: model.id, input: given });
    const { label: best, probabilities } = told.results[0];
    const sorted = Object.entries(probabilities).sort((a, b) => b[1] - a[1]).slice(0, 8);
    body.replaceChildren(h("p", { class: "verdict" }, best),
      ...sorted.map(([name, share]) => bar(name, share, { "data-best": name === best ? "yes" : "no" })));
    const seconds = (performance.now() - started) / 1000;
    return { id: told.id, fingerprint: told.system_fingerprint, model: model.id, seconds, first: null, written: 0, text: `${best} for ${given}` };
  }

  async function write(model, call, body) {
    const asked = { model: model.id, max_tokens: 32, temperature: 0, logprobs: 0 };
    if (call) asked.template = call;
    if (input.value || !call) asked.prompt = input.value;
    const text = h("span", { class: "made" }), sure = h("div");
    body.replaceChildren(h("p", { class: "text" }, text), sure);
    const started = performance.now(), seen = { first: null, written: 0, model: model.id }, chances = [];
    for await (const piece of stream("/v1/completions", asked)) {
      Object.assign(seen, { id: piece.id, fingerprint: piece.system_fingerprint });
      if (piece.usage) seen.written = piece.usage.completion_tokens;
      for (const choice of piece.choices) {
        if (choice.text && seen.first == null) seen.first = (performance.now() - started) / 1000;
        text.append(choice.text);
        chances.push(...(choice.logprobs?.token_logprobs ?? []));
      }
    }
    if (!text.textContent) text.append(h("i", { class: "soft" }, "(nothing)"));
    if (chances.length) sure.append(bar("mean chance of a token", Math.exp(chances.reduce((a, b) => a + b) / chances.length)));
    seen.seconds = (performance.now() - started) / 1000;
    seen.text = text.textContent;
    return seen;
  }

  const form = h("form", { class: "panel", onsubmit: run }, h("div", { class: "head" }, modes, picks),
    template.element, field("input", input), h("div", { class: "row" }, go, note));
  pick(mode);
  return h("div", { class: "stack" }, form, cards);
}

/** What the model's evaluation found, as a mark on a line with its interval. */
function score(model) {
  const found = model.score;
  if (found?.score == null)
    return h("p", { class: "score soft" }, h("span", {}, "not judged"), h("span", { class: "scale none" }));
  const line = h("span", { class: "scale" });
  const bounded = found.score <= 1 && found.interval;
  if (bounded) {
    const range = h("span", { class: "range" }), mark = h("span", { class: "mark" });
    range.style.left = `${100 * found.interval[0]}%`;
    range.style.width = `${100 * (found.interval[1] - found.interval[0])}%`;
    mark.style.left = `${100 * found.score}%`;
    line.append(range, mark);
  }
  const interval = found.interval ? ` [${found.interval.map(each => each.toFixed(3)).join(", ")}]` : "";
  const text = `${found.metric} ${found.score.toFixed(3)}${interval}`;
  return h("p", { class: "score", title: "on test data, with its interval" }, h("span", {}, text), bounded ? line : null);
}
