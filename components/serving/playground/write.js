// Completion and chat with one model, streamed.

import { chooser, field, h, problem, stream } from "./api.js";
import { facts, generates, models, templateFields } from "./pieces.js";

export default function view(shared) {
  let mode = "completion", turns = [], running = null;
  const model = chooser(models(shared, generates), () => {});
  const template = templateFields(shared);
  const prompt = h("textarea", { rows: 4, placeholder: "Write the beginning of a text …", "aria-label": "prompt" });
  const most = h("input", { type: "number", value: 40, min: 1 });
  const heat = h("input", { type: "range", value: 0.7, min: 0, max: 1.5, step: 0.1 });
  const heatShown = h("output", {}, "0.7");
  heat.addEventListener("input", () => { heatShown.textContent = heat.value; });
  const seed = h("input", { type: "number", min: 0, placeholder: "any" });
  const out = h("section", { class: "answers", "aria-live": "polite" }, empty());
  const go = h("button", { class: "primary" }, "Write");
  const modes = h("div", { class: "switch", role: "group", "aria-label": "mode" },
    ["completion", "chat"].map(name => h("button", { type: "button", "aria-pressed": name === mode, onclick: () => pick(name) }, name)));

  function pick(name) {
    mode = name; turns = [];
    for (const button of modes.children) button.setAttribute("aria-pressed", button.textContent === name);
    prompt.placeholder = name === "chat" ? "Say something …" : "Write the beginning of a text …";
    go.textContent = name === "chat" ? "Send" : "Write";
    template.element.hidden = name === "chat";
    out.replaceChildren(empty());
  }

  async function run(event) {
    event.preventDefault();
    if (running) return running.abort();
    const call = mode === "completion" ? template.call() : null;
    if (!call && !prompt.value) return prompt.focus();
    const body = { model: model.value, max_tokens: Math.max(1, +most.value || 1), temperature: +heat.value };
    if (seed.value !== "") body.seed = +seed.value;
    if (call) body.template = call;
    if (mode === "chat") {
      turns.push({ role: "user", content: prompt.value });
      body.messages = turns;
    } else if (prompt.value || !call) body.prompt = prompt.value;
    await answer(body, call);
  }

  async function answer(body, call) {
    const asked = mode === "chat" ? prompt.value : [rendered(shared, call), prompt.value].join("");
    const text = h("span", { class: "made" });
    const card = h("article", { class: mode },
      mode === "chat" ? h("p", { class: "said" }, asked) : null,
      h("p", { class: "text" }, mode === "chat" ? null : h("span", { class: "asked" }, asked), text),
      h("footer", { class: "facts" }, h("span", {}, `${body.model} is writing …`)));
    out.querySelector(".empty")?.remove();
    if (mode === "chat") { out.append(card); prompt.value = ""; card.scrollIntoView({ block: "nearest" }); } else out.prepend(card);
    running = new AbortController();
    go.textContent = "Stop";
    const started = performance.now(), seen = { first: null, written: 0 };
    try {
      const path = mode === "chat" ? "/v1/chat/completions" : "/v1/completions";
      for await (const piece of stream(path, body, running.signal)) {
        Object.assign(seen, { id: piece.id, fingerprint: piece.system_fingerprint, model: piece.model });
        if (piece.usage) seen.written = piece.usage.completion_tokens;
        for (const choice of piece.choices) {
          const more = choice.text ?? choice.delta?.content ?? "";
          if (more && seen.first == null) seen.first = (performance.now() - started) / 1000;
          text.append(more);
        }
      }
      seen.seconds = (performance.now() - started) / 1000;
      if (!text.textContent) text.append(h("i", { class: "soft" }, "(nothing: the document ends here)"));
      else if (mode === "chat") turns.push({ role: "assistant", content: text.textContent });
      card.querySelector(".facts").replaceWith(h("div", { class: "signed" }, h("b", {}, body.model), facts(seen)));
      if (mode === "chat") card.scrollIntoView({ block: "nearest" });
      shared.answered({ ...seen, text: text.textContent });
    } catch (error) {
      if (mode === "chat") turns.pop();
      card.querySelector(".facts").replaceWith(error.name === "AbortError" ? h("footer", { class: "facts" }, "stopped") : problem(error));
    } finally {
      running = null;
      go.textContent = mode === "chat" ? "Send" : "Write";
    }
  }

  prompt.addEventListener("keydown", event => {
    if (event.key === "Enter" && (event.metaKey || event.ctrlKey || mode === "chat") && !event.shiftKey) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  const form = h("form", { class: "panel", onsubmit: run },
    modes, field("model", model), template.element, field("prompt", prompt),
    h("div", { class: "triple" }, field("max tokens", most), field("seed", seed),
      h("label", {}, h("span", {}, "temperature ", heatShown), heat)),
    go);
  return h("div", { class: "split" }, form, out);
}

const empty = () => h("p", { class: "empty" }, "Answers appear here, each with its speed and its fingerprint.");

/** What the server will render, for show; it renders by itself. */
function rendered(shared, call) {
  if (!call) return "";
  const chosen = shared.templates.find(each => each.id === call.id && each.version === call.version);
  return chosen.template.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, name) => call.variables[name] ?? "");
}
