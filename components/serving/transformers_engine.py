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
from components.evaluation import subject as subjects
from components.evaluation.classification import label_probabilities
from components.lineage import file_hash
from components.models import llama
from components.serving.engine import BASE, NOBODY, Caller, RequestError, Sampling, Token
from components.serving.proof import ACTS, about_adapter, prove_bytes, prove_golden, proven_base
from components.serving.texts import Speaking, Texts

PROBE = "The"
UNKNOWN = {  # ways to choose tokens, each with the field of a request that asks for it
    **{name: name for name in ("top_k", "min_p", "repetition_penalty", "choices")},
    "json_schema": "response_format",
}


class TransformersEngine(Speaking):
    """Serves the base of a folder and adapters, each with its own copy of the model."""

    at_once = 1

    def __init__(self, base: Path, adapters: Mapping[str, Path] | None = None) -> None:
        """Load everything, and prove that each trained adapter changes what the base says.

        An adapter that belongs to another base, or does nothing, is `unavailable`.

        Raises:
            ValueError: the base's files are not what its lineage says.
        """
        self.base = base
        self._about: dict[str, dict[str, Any]] = {BASE: proven_base(base)}
        self.texts = Texts(base)
        self.tokenizer = self.texts.tokenizer
        self._turn = threading.Lock()  # the line may be another engine's, whose base has moved
        self._models = {BASE: llama.load(base)}
        self._methods: dict[str, Method] = {}
        self._unavailable: dict[str, str] = {}
        for name, folder in (adapters or {}).items():
            self.add(name, folder)

    def add(self, name: str, folder: Path, evaluation: Path | None = None) -> None:
        """See `Engine.add`."""
        if name in self._about:
            raise ValueError(f"'{name}' is served already; remove it, or add under another name")
        self._unavailable.pop(name, None)
        try:
            self._load(name, folder, evaluation)
        except Exception as error:  # of any library that reads a file: the others are served
            self._unavailable[name] = str(error)

    def warm(self) -> None:
        """Everything is in memory."""

    def _load(self, name: str, folder: Path, evaluation: Path | None) -> None:
        about, method = about_adapter(folder), method_of(folder)
        prove_bytes(folder, about, self._about[BASE]["content"])
        model = load_adapter(self.base, folder)
        if about["described"]["trainable_parameters"] and not self._acts(model, method):
            raise ValueError(
                f"adapter '{name}' of {folder} changes nothing: it would answer as base"
            )
        if evaluation is not None:
            self._prove(evaluation, about, lambda p: method.logits(model, self.tokenizer, p)[1])
        self._models[name], self._methods[name], self._about[name] = model, method, about

    def _prove(self, evaluation: Path, about: Mapping[str, Any], logits: Any) -> None:
        """See `proof.prove_golden`. logits: what the adapter says after a text."""
        tokenizer = file_hash(self.base / "tokenizer.json")
        hashes = {"base": self._about[BASE]["content"], "tokenizer": tokenizer}
        hashes["adapter"] = about["content"]
        prove_golden(evaluation, hashes, self.encode, lambda golden: logits(golden["prompt"]))

    def remove(self, name: str) -> None:
        """See `Engine.remove`."""
        for held in (self._about, self._unavailable, self._models, self._methods):
            held.pop(name, None)

    def unavailable(self) -> Mapping[str, str]:
        return dict(self._unavailable)

    def reason(self, name: str) -> str | None:
        """See `Engine.reason`."""
        return self._unavailable.get(name)

    def figures(self) -> Mapping[str, float]:
        return {}

    def _acts(self, model: "torch.nn.Module", method: Method) -> bool:
        """Whether its logits are others than the base's, or a head's others than all equal."""
        said = method.logits(model, self.tokenizer, PROBE)[1]
        plain = said.mean()
        if method.generates:
            plain = answering.logits(self._models[BASE], self.tokenizer, PROBE)[1]
        return bool((said - plain).abs().max() > ACTS)

    def models(self) -> Mapping[str, Mapping[str, Any]]:
        return dict(self._about)

    def model(self, name: str) -> Mapping[str, Any] | None:
        """See `Engine.model`."""
        return self._about.get(name)

    def vocabulary(self) -> int:
        return self._models[BASE].config.vocab_size

    def memory(self, model: str) -> int:
        """See `Engine.memory`: here each adapter has a copy of the base, which counts."""
        return sum(weights.nbytes for weights in self._models[model].parameters())

    def room(self, model: str) -> int:
        """See `Engine.room`.

        Raises:
            RequestError: the model is a classifier head, which has no text to give.
        """
        if model in self._methods and not self._methods[model].generates:
            raise RequestError(
                "this model is a classifier (head) and gives labels, no text: POST /v1/classify, "
                "or name another",
                "model",
            )
        return room(self._models[model]) - 1  # a document begins with the end of another

    def generate(
        self, model: str, ids: Sequence[int], sampling: Sampling, caller: Caller = NOBODY
    ) -> Iterator[Token]:
        """See `Engine.generate`. Nothing is kept of a request, so its tenant changes nothing.

        Raises:
            RequestError: the prompt is empty where it may not be, or tokens are to be chosen in a
                way that is not known here.
        """
        plain = Sampling(sampling.max_tokens)
        for name, field in UNKNOWN.items():
            if getattr(sampling, name) != getattr(plain, name):
                raise RequestError(
                    f"{field}: the transformers backend, which serves this base, does not know it",
                    field,
                )
        with self._turn:
            served = self._models[model]
            first = [] if caller.opened else opening(served, self.tokenizer)
            yield from self._generate(served, [*first, *ids], sampling)

    def _generate(
        self, served: "torch.nn.Module", ids: Sequence[int], sampling: Sampling
    ) -> Iterator[Token]:
        random = torch.Generator()
        if sampling.seed is not None:
            random.manual_seed(sampling.seed)
        else:
            random.seed()
        # long even where it is empty, as it may be behind a soft prompt
        known = torch.tensor([ids], dtype=torch.long)
        if not known.numel() and is_prefix(served):
            raise RequestError(
                "the prompt is empty, and the model's prefix holds keys and values, from which no "
                "token follows: give a prompt of one token at least",
                "prompt",
            )
        cache: Cache | None = None
        with torch.inference_mode():
            for _ in range(sampling.max_tokens):
                logits, cache = _next(served, known, cache)
                token = _choose(logits, sampling, random)
                if token.id in self.texts.ends:
                    return
                yield token
                known = torch.cat([known, torch.tensor([[token.id]])], 1)

    def classify(
        self, model: str, texts: Sequence[str], caller: Caller = NOBODY
    ) -> list[dict[str, float]]:
        if model == BASE:
            raise RequestError("the base has no labels; name an adapter", "model")
        described = self._about[model]["described"]
        with self._turn:
            subject = subjects.described(self._models[model], self.tokenizer, described)
            return label_probabilities(subject, texts)

    def about(self) -> Mapping[str, str]:
        libraries = ("torch", "transformers", "peft", "tokenizers")
        return {"engine": "transformers", **{name: metadata.version(name) for name in libraries}}

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
