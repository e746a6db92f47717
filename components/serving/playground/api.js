// What the views ask the server, and how they build elements.

const store = sessionStorage;

export class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

export function setKey(key) { store.setItem("key", key); }

async function ask(path, options = {}) {
  const headers = { "Content-Type": "application/json" };
  const key = store.getItem("key");
  if (key) headers.Authorization = `Bearer ${key}`;
  const response = await fetch(path, { ...options, headers }).catch(error => {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "the server does not answer");
  });
  if (response.ok) return response;
  const told = await response.json().catch(() => null);
  throw new Refused(response.status, told?.error?.message ?? `the server said ${response.status}`);
}

export const get = async path => (await ask(path)).json();

export const post = async (path, body, signal) =>
  (await ask(path, { method: "POST", body: JSON.stringify(body), signal })).json();

/** The pieces of a streamed answer, as objects. */
export async function* stream(path, body, signal) {
  const sent = JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } });
  const response = await ask(path, { method: "POST", body: sent, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.slice("data: ".length);
      if (data === "[DONE]") return;
      const piece = JSON.parse(data);
      if (piece.error) throw new Refused(200, piece.error.message);
      yield piece;
    }
  }
}

/** An element: h("p", {class: "soft", onclick: f}, "text", child). Text is never read as HTML. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("aria-")) element.setAttribute(name, value);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter(child => child != null));
  return element;
}

export const percent = chance =>
  chance >= 0.0995 ? `${(100 * chance).toFixed(0)} %` : `${(100 * chance).toFixed(1)} %`;

/** A bar with a name and a share of 1. */
export function bar(name, share, extra = {}) {
  const inner = h("span", { class: "fill" });
  inner.style.width = `${Math.max(100 * share, 0.5)}%`;
  return h("div", { class: "bar", ...extra },
    h("span", { class: "name" }, name), h("span", { class: "track" }, inner),
    h("span", { class: "value" }, percent(share)));
}

/** A piece of text as a token shows it: spaces and line ends can be seen. */
export const visible = piece =>
  piece === "" ? "∅" : piece.replaceAll(" ", "·").replaceAll("\n", "↵").replaceAll("\t", "⇥");

export function chooser(options, onchange, attributes = {}) {
  return h("select", { ...attributes, onchange: event => onchange(event.target.value) },
    options.map(([value, text, off]) => h("option", { value, disabled: off }, text)));
}

export function field(name, control) { return h("label", {}, h("span", {}, name), control); }

export function problem(error) {
  return h("p", { class: "error", role: "alert" }, error.message);
}
