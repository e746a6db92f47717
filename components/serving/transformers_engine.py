"""An engine on transformers, for bases that kindling's own does not know.

One model in memory for each adapter, one request at a time.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from transformers import Cache

from components.adapters import answering, load_adapter, method_of
from components.adapters.encoding import has_virtual_tokens, is_prefix, opening, room
from components.adapters.method import Method
from components.evaluation.classification import classify
from components.lineage import content_of, read_json
from components.models import llama
from components.serving.engine import BASE, NOBODY, Caller, RequestError, Sampling, Token
from components.serving.proof import ACTS
from components.serving.texts import Texts

BACKEND = "transformers"
PROBE = "The"
UNKNOWN = ("top_k", "min_p", "repetition_penalty", "choices", "json_schema")


class TransformersEngine:
    """Serves the base of a folder and adapters, each with its own copy of the model."""

    def __init__(self, base: Path, adapters: Mapping[str, Path]) -> None:
        """Load everything, and prove that each trained adapter changes what the base says.

        Raises:
            ValueError: an adapter belongs to another base, or does nothing.
        """
        self.base = base
        self.texts = Texts(base)
        self.tokenizer = self.texts.tokenizer
        self._turn = threading.Lock()
        self._models = {BASE: llama.load(base)}
        self._folders = dict(adapters)
        self._methods = {name: method_of(folder) for name, folder in adapters.items()}
        about = {"content": content_of(base), "path": str(base), "method": None}
        about |= {"backend": BACKEND, "unavailable": None}
        self._about: dict[str, dict[str, Any]] = {BASE: about}
        for name, folder in adapters.items():
            self._add(name, folder)

    def _add(self, name: str, folder: Path) -> None:
        described = read_json(folder / "adapter.json")
        model = load_adapter(self.base, folder)
        if described["trainable_parameters"] and not self._acts(model, self._methods[name]):
            raise ValueError(
                f"adapter '{name}' of {folder} changes nothing: it would answer as base"
            )
        self._models[name] = model
        self._about[name] = {
            "content": content_of(folder),
            "path": str(folder),
            "method": described["method"],
            "task": described["task"],
            "prompt": {key: described["prompt"][key] for key in ("name", "sha")},
            "backend": BACKEND,
            "unavailable": None,
        }

    def _acts(self, model: "torch.nn.Module", method: Method) -> bool:
        """Whether its logits are others than the base's, or a head's others than all equal."""
        said = method.logits(model, self.tokenizer, PROBE)[1]
        plain = said.mean()
        if method.generates:
            plain = answering.logits(self._models[BASE], self.tokenizer, PROBE)[1]
        return bool((said - plain).abs().max() > ACTS)

    def models(self) -> Mapping[str, Mapping[str, Any]]:
        return self._about

    def vocabulary(self) -> int:
        return self._models[BASE].config.vocab_size

    def encode(self, text: str) -> list[int]:
        return self.texts.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        return self.texts.decode(ids)

    def chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        return self.texts.chat(messages)

    def room(self, model: str) -> int:
        """See `Engine.room`.

        Raises:
            RequestError: the model is a classifier head, which has no text to give.
        """
        if model in self._methods and not self._methods[model].generates:
            raise RequestError(
                f"'{model}' is a classifier ({self._about[model]['method']}) and gives labels, no "
                "text: POST /v1/classify, or name another model",
                "model",
            )
        return room(self._models[model]) - 1  # a document begins with the end of another

    def generate(
        self, model: str, ids: Sequence[int], sampling: Sampling, caller: Caller = NOBODY
    ) -> Iterator[Token]:
        """See `Engine.generate`.

        Raises:
            RequestError: the prompt is empty where it may not be, or tokens are to be chosen in a
                way that is not known here.
        """
        plain = Sampling(sampling.max_tokens)
        for name in UNKNOWN:
            if getattr(sampling, name) != getattr(plain, name):
                raise RequestError(
                    f"{name}: the transformers backend, which serves this base, does not know it",
                    name,
                )
        with self._turn:
            yield from self._generate(model, ids, sampling)

    def _generate(self, model: str, ids: Sequence[int], sampling: Sampling) -> Iterator[Token]:
        served = self._models[model]
        random = torch.Generator()
        if sampling.seed is not None:
            random.manual_seed(sampling.seed)
        else:
            random.seed()
        # long even where it is empty, as it may be behind a soft prompt
        known = torch.tensor([[*opening(served, self.tokenizer), *ids]], dtype=torch.long)
        if not known.numel() and is_prefix(served):
            raise RequestError(
                f"the prompt is empty, and the prefix of '{model}' holds keys and values, from "
                "which no token follows: give a prompt of one token at least",
                "prompt",
            )
        cache: Cache | None = None
        with torch.inference_mode():
            for _ in range(sampling.max_tokens):
                logits, cache = _next(served, known, cache)
                token = _choose(logits, sampling, random)
                if token.id == self.tokenizer.eos_token_id:
                    return
                yield token
                known = torch.cat([known, torch.tensor([[token.id]])], 1)

    def classify(
        self, model: str, texts: Sequence[str], caller: Caller = NOBODY
    ) -> list[dict[str, float]]:
        if model == BASE:
            raise RequestError("the base has no labels; name an adapter", "model")
        with self._turn:
            return classify(self._models[model], self.base, self._folders[model], texts)

    def about(self) -> Mapping[str, str]:
        libraries = ("torch", "transformers", "peft", "tokenizers")
        return {"engine": BACKEND, **{name: metadata.version(name) for name in libraries}}

    def close(self) -> None:
        """Nothing runs between requests."""


def _next(
    model: "torch.nn.Module", known: "torch.Tensor", cache: Cache | None
) -> tuple["torch.Tensor", Cache]:
    """The logits of the token after `known` (shape (1, tokens)), and the cache that holds it."""
    if cache is None:
        mask = torch.ones_like(known)
        out = model(input_ids=known, attention_mask=mask, use_cache=True)
    else:
        # virtual tokens are in the cache already: go past PEFT to the model below
        inner = model.get_base_model() if has_virtual_tokens(model) else model
        out = inner(input_ids=known[:, -1:], past_key_values=cache, use_cache=True)
    return out.logits[0, -1].float(), out.past_key_values


def _choose(logits: "torch.Tensor", sampling: Sampling, random: "torch.Generator") -> Token:
    """Greedy, or nucleus sampling (Holtzman et al. 2020): the fewest tokens of mass top_p."""
    logprobs = logits.log_softmax(0)
    if sampling.temperature == 0:
        chosen = int(logits.argmax())
    else:
        weights = (logits / sampling.temperature).softmax(0)
        ordered, order = weights.sort(descending=True)
        before = ordered.cumsum(0) - ordered
        ordered[before >= sampling.top_p] = 0
        chosen = int(order[torch.multinomial(ordered, 1, generator=random)])
    top = logprobs.topk(sampling.top) if sampling.top else None
    alternatives = dict(zip(top.indices.tolist(), top.values.tolist(), strict=True)) if top else {}
    return Token(chosen, float(logprobs[chosen]), alternatives)
