// Parts that several views share: choosing a model, a template with its variables, facts of an answer.

import { chooser, field, h, post, svg } from "./api.js";

/** What a model is called in a list. */
export const title = model =>
  model.id + (model.method && model.method !== model.id ? ` · ${model.method}` : "") + (model.available ? "" : " · unavailable");

export function models(shared, keep = () => true) {
  return shared.models.filter(keep).map(model => [model.id, title(model), !model.available]);
}

export const generates = model => model.method !== "head";

const championFirst = (one, other) => (other === "champion") - (one === "champion");

/** Fields for a registered template: a name, a version, a box for each variable. */
export function templateFields(shared, onchange = () => {}) {
  const names = [...new Set(shared.templates.map(each => each.id))];
  const boxes = h("div", { class: "variables" });
  const versions = h("select", { "aria-label": "version" });
  const preview = h("p", { class: "wording" });
  let chosen = null;

  function pick() {
    const list = shared.templates.filter(each => each.id === name.value);
    chosen = list.find(each => String(each.version) === versions.value) ?? null;
    const before = Object.fromEntries([...boxes.querySelectorAll("textarea")].map(b => [b.name, b.value]));
    boxes.replaceChildren(...(chosen?.variables ?? []).map(variable => {
      const box = h("textarea", { name: variable, rows: 2, placeholder: "a text", oninput: onchange });
      box.value = before[variable] ?? "";
      return field(`{{${variable}}}`, box);
    }));
    preview.textContent = chosen ? chosen.template : "";
    preview.hidden = !chosen;
    onchange();
  }
  function pickName() {
    const list = shared.templates.filter(each => each.id === name.value).reverse();
    versions.replaceChildren(...list.map(each => h("option", { value: each.version },
      `${each.version}${each.aliases.length ? ` · ${[...each.aliases].sort(championFirst).join(", ")}` : ""}`)));
    const champion = list.find(each => each.aliases.includes("champion")) ?? list[0];
    if (champion) versions.value = champion.version;
    versions.parentElement.hidden = !list.length;
    pick();
  }
  const name = chooser([["", "none"], ...names.map(each => [each, each])], pickName);
  versions.addEventListener("change", pick);
  const row = h("div", { class: "pair" }, field("template", name), field("version", versions));
  const element = h("div", { class: "template" }, row, preview, boxes);
  pickName();
  return {
    element,
    /** As a request has it; null without a template. */
    call: () => chosen && {
      id: chosen.id,
      version: chosen.version,
      variables: Object.fromEntries([...boxes.querySelectorAll("textarea")].map(b => [b.name, b.value])),
    },
    choose(id) { name.value = id; pickName(); },
  };
}

const THUMB = "M7 10.5 10.6 3c1.3 0 2.2.9 2.2 2.2V9h4.3c1 0 1.8.9 1.6 1.9l-1.2 6.6c-.2.9-.9 1.5-1.8 1.5H7m0-8.5H4.2c-.7 0-1.2.5-1.2 1.2v6.1c0 .7.5 1.2 1.2 1.2H7m0-8.5V19";

const thumb = down => svg("svg", { viewBox: "0 0 22 22", class: down ? "down" : null, "aria-hidden": "true" }, svg("path", { d: THUMB }));

/** Speed and origin of an answer, and two buttons that say what one thinks of it. */
export function facts(answer) {
  const { first, seconds, written, fingerprint, id } = answer;
  const told = [];
  if (written) told.push(`${(written / seconds).toFixed(0)} tokens/s`);
  if (first != null) told.push(`first after ${(1000 * first).toFixed(0)} ms`);
  else told.push(`${(1000 * seconds).toFixed(0)} ms`);
  if (written) told.push(`${written} token${written === 1 ? "" : "s"}`);
  const note = h("span", { class: "thanks", role: "status" });
  const say = score => async () => {
    try {
      await post("/v1/feedback", { id, score });
      for (const button of note.parentElement.querySelectorAll("button")) button.disabled = true;
      note.textContent = "kept";
    } catch (error) { note.textContent = error.message; }
  };
  return h("footer", { class: "facts" },
    told.map(text => h("span", {}, text)),
    h("a", { href: `#lineage/${id}`, title: "what made this answer", class: "print" }, fingerprint),
    h("span", { class: "vote" },
      h("button", { type: "button", onclick: say(1), "aria-label": "good answer", title: "good answer" }, thumb(false)),
      h("button", { type: "button", onclick: say(0), "aria-label": "bad answer", title: "bad answer" }, thumb(true)), note));
}
