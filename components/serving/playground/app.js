// The page: which view is open, what it may know, and a key where the server wants one.

import { get, h, setKey } from "./api.js";
import compare from "./compare.js";
import inside from "./inside.js";
import lineage from "./lineage.js";
import tokens from "./tokens.js";
import write from "./write.js";

const VIEWS = { write, compare, tokens, inside, lineage };
const NAMES = { write: "Write", compare: "Side by side", tokens: "Tokens", inside: "Inside", lineage: "Lineage" };
const main = document.querySelector("main");
const shared = { models: [], templates: [], tokenizers: [], answers: [] };
const drawn = {};

/** Note an answer, so that the lineage view can draw it. */
shared.answered = answer => {
  shared.answers = [answer, ...shared.answers.filter(one => one.fingerprint !== answer.fingerprint)].slice(0, 8);
  delete drawn.lineage;
};

function show() {
  const [name, argument] = location.hash.slice(1).split("/");
  const view = VIEWS[name] ? name : "write";
  for (const link of document.querySelectorAll("nav a"))
    link.toggleAttribute("aria-current", link.hash === `#${view}`);
  if (!drawn[view] || argument) drawn[view] = VIEWS[view](shared, argument);
  main.replaceChildren(drawn[view]);
}

function askForKey(message) {
  const form = document.getElementById("key-form").content.firstElementChild.cloneNode(true);
  form.querySelector(".error").textContent = message;
  form.addEventListener("submit", event => {
    event.preventDefault();
    setKey(new FormData(form).get("key").trim());
    start();
  });
  main.replaceChildren(form);
  form.querySelector("input").focus();
}

async function start() {
  try {
    shared.models = (await get("/v1/models")).data;
    shared.templates = (await get("/v1/templates")).data;
    shared.tokenizers = (await get("/v1/tokenizers")).data;
  } catch (error) {
    if (error.status === 401) return askForKey(sessionStorage.getItem("key") ? error.message : "");
    main.replaceChildren(h("p", { class: "panel error", role: "alert" }, error.message));
    return;
  }
  document.querySelector("nav").replaceChildren(
    ...Object.keys(VIEWS).map(name => h("a", { href: `#${name}` }, NAMES[name])));
  const away = shared.models.filter(model => !model.available).length;
  document.querySelector(".state").textContent =
    `${shared.models.length - away} models${away ? `, ${away} unavailable` : ""}`;
  window.addEventListener("hashchange", show);
  show();
}

start();
