// A text as coloured tokens, by every tokenizer of the workspace.

import { field, h, post, problem, visible } from "./api.js";

const WAIT = 150, COLOURS = 6;

export default function view(shared) {
  const text = h("textarea", { rows: 4, "aria-label": "text" });
  text.value = "The plot was not dull, and the music was surprisingly warm.\nÉvidemment — naïve, für 20 €!";
  const cards = h("section", { class: "tokenizers" });
  let timer = 0, turn = 0;

  async function cut() {
    const mine = ++turn;
    const found = await Promise.all(shared.tokenizers.map(({ id }) =>
      cutBy(id, text.value).catch(error => ({ error, tokenizer: id }))));
    if (mine === turn) cards.replaceChildren(...found.map(told => card(told, shared)));
  }
  text.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(cut, WAIT); });
  cut();
  return h("div", { class: "stack" }, h("div", { class: "panel" }, field("text", text)), cards);
}

const cutBy = async (tokenizer, text) => ({ ...(await post("/v1/tokenize", { input: text, tokenizer })), text });

/** A token that is some bytes of a character: the character, and which of its tokens this is. */
function part(told, letters, place) {
  const [start, end] = told.spans[place];
  let number = 1;
  while (told.spans[place - number]?.[0] === start) number += 1;
  return [h("span", { class: "whole" }, visible(letters.slice(start, end).join(""))), h("sub", {}, number)];
}

function card(told, shared) {
  const name = h("h3", {}, told.tokenizer);
  if (told.error) return h("article", {}, name, problem(told.error));
  const size = shared.tokenizers.find(each => each.id === told.tokenizer).vocabulary;
  const ratio = told.count ? (told.characters / told.count).toFixed(2) : "–";
  const counts = [[told.count, "tokens"], [told.characters, "characters"], [ratio, "characters a token"], [size.toLocaleString("en"), "in the vocabulary"]];
  const letters = [...told.text];
  const pieces = told.pieces.map((piece, place) =>
    h("span", { class: `token t${place % COLOURS}`, title: `token ${told.tokens[place]}, characters ${told.spans[place].join("–")}` },
      h("b", {}, piece.includes("\ufffd") ? part(told, letters, place) : visible(piece)), h("small", {}, told.tokens[place])));
  return h("article", {}, name,
    h("div", { class: "counts" }, counts.map(([value, what]) => h("span", {}, h("b", {}, value), ` ${what}`))),
    h("div", { class: "tokens" }, pieces));
}
