"""kindling's own engine: every kind of adapter in one batch, for bases of the Llama family."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from components.inference.adapter import Adapter
from components.inference.batcher import Batcher, Limits
from components.inference.checkpoint import config_of
from components.inference.product import FLOAT32
from components.inference.request import GaveUp, Request, TooLarge
from components.inference.threads import passing_crew
from components.inference.turns import Turns
from components.inference.weights import load
from components.lineage import file_hash
from components.serving.choosing import Chosen, impossible
from components.serving.engine import BASE, NOBODY, Caller, RequestError, Sampling, Token
from components.serving.proof import SAME, Refused, prove_acts, prove_golden, proven_base
from components.serving.scoring import Served, classify
from components.serving.shelf import Held, Home, Shelf, Version
from components.serving.taking import taken
from components.serving.texts import Speaking, Texts

BACKEND = "kindling"
PROBE = "The"
ADAPTER_BYTES = 1 << 30
LIBRARIES = ("torch", "numba", "tokenizers", "llguidance")


class BatchedEngine(Speaking):
    """Serves the base of a folder and adapters, all in one batch."""

    @passing_crew()  # which reads the weights
    def __init__(
        self,
        base: Path,
        adapters: Mapping[str, Path] | None = None,
        evaluations: Mapping[str, Path] | None = None,
        limits: Limits | None = None,
        adapter_bytes: int = ADAPTER_BYTES,
        precision: str = FLOAT32,
        device: torch.device | None = None,
    ) -> None:
        """evaluations: the folders with the adapters' golden prompts, by name, where there are any.

        precision: of the base's products. device: where they are computed; None: on the processor.

        Raises:
            Unsupported: the base is none of the family.
            ValueError: the base's files are not what its lineage says, or this machine has no
                products of that precision.
        """
        self.base, limits = base, limits or Limits()
        self._about = proven_base(base)
        content = self._about["content"]
        weights = load(base, precision, device)
        self.texts = Texts(base)
        self._config = config_of(base)
        self._hashes = {"base": content, "tokenizer": file_hash(base / "tokenizer.json")}
        self.batcher = Batcher(weights, limits, Turns())
        home = Home(base, content, weights, self.batcher, limits)
        self.shelf = Shelf(home, adapter_bytes, self._prove)
        self.alone = Held(Adapter(), self.batcher, 0, (home.root(),))
        self._chosen = Chosen(self.texts, weights.shape.vocabulary)
        for name, folder in (adapters or {}).items():
            self.add(name, folder, (evaluations or {}).get(name))

    @property
    def at_once(self) -> int:
        """Requests that run in one batch."""
        return self.batcher.limits.rows

    def add(self, name: str, folder: Path, evaluation: Path | None = None) -> None:
        """See `Engine.add`. It is read and proven at its first request, or by `warm`."""
        self.shelf.add(Version(name, folder, evaluation))

    def remove(self, name: str) -> None:
        """See `Engine.remove`."""
        self.shelf.remove(name)

    def warm(self) -> None:
        """See `Engine.warm`. What was added last comes first: it is about to take over."""
        evictions, versions = self.shelf.evictions, self.shelf.versions().values()
        for version in reversed([version for version in versions if version.held is None]):
            if self.shelf.evictions > evictions:
                return
            try:
                with self.shelf.use(version):
                    pass
            except Refused:
                continue  # `unavailable` says why

    def models(self) -> Mapping[str, Mapping[str, Any]]:
        held = self.shelf.versions().items()
        return {BASE: self._about, **{n: v.about for n, v in held if v.reason is None}}

    def model(self, name: str) -> Mapping[str, Any] | None:
        """See `Engine.model`."""
        if name == BASE:
            return self._about
        version = self.shelf.find(name)
        return None if version is None or version.reason is not None else version.about

    def unavailable(self) -> Mapping[str, str]:
        held = self.shelf.versions().items()
        return {name: version.reason for name, version in held if version.reason is not None}

    def reason(self, name: str) -> str | None:
        """See `Engine.reason`."""
        version = self.shelf.find(name)
        return None if version is None else version.reason

    def figures(self) -> Mapping[str, float]:
        pool, shelf = self.batcher.pool, self.shelf
        return {
            "steps": self.batcher.steps,
            "tokens_written": self.batcher.written,
            "prefix_hits": pool.hits,
            "prefix_misses": pool.misses,
            "prefix_evictions": pool.evictions,
            "adapter_loads": shelf.loads,
            "adapter_evictions": shelf.evictions,
            "adapter_refusals": shelf.refusals,
        }

    def vocabulary(self) -> int:
        return self.batcher.decoder.weights.shape.vocabulary

    def memory(self, model: str) -> int:
        """See `Engine.memory`.

        Raises:
            RequestError: the model must not answer.
        """
        with self._using(model) as (version, _):
            return self.shelf.bytes_of(version)

    def room(self, model: str) -> int:
        """See `Engine.room`.

        Raises:
            RequestError: the model must not answer, or is a classifier, which has no text to give.
        """
        pool, context = self.batcher.pool, self.batcher.decoder.weights.shape.context
        room = min(context - 1, pool.blocks * pool.block)  # one is for the end of another document
        if model == BASE:
            return room
        version = self._version(model)
        if version.reason is not None:
            raise _unavailable(version.reason)
        if version.described["method"] == "head":
            raise RequestError(
                "this model is a classifier (head) and gives labels, no text: POST /v1/classify, "
                "or name another",
                "model",
            )
        return room - version.virtual_tokens

    def generate(
        self, model: str, ids: Sequence[int], sampling: Sampling, caller: Caller = NOBODY
    ) -> Iterator[Token]:
        """See `Engine.generate`.

        Raises:
            RequestError: the model must not answer, the prompt is empty where it may not be, or
                the answer is held to what cannot be.
        """
        if model == BASE:
            yield from self._answer(self.alone, ids, sampling, caller)
            return
        with self._using(model, caller) as (_, held):
            yield from self._answer(held, ids, sampling, caller)

    @contextmanager
    def _using(self, model: str, caller: Caller = NOBODY) -> Iterator[tuple[Version, Held]]:
        """The version that `model` means, in memory, where it stays until the end of the block.

        Raises:
            RequestError: it must not answer, or is served no more.
        """
        version = self._version(model)
        try:
            with self.shelf.use(version, caller) as held:
                yield version, held
        except Refused as refused:
            raise _unavailable(str(refused)) from None

    def _version(self, model: str) -> Version:
        if (version := self.shelf.find(model)) is not None:
            return version
        said = f"'{model}' is served no more; GET /v1/models names those that are"
        raise RequestError(said, "model", "model_not_found")

    def _answer(
        self, held: Held, ids: Sequence[int], sampling: Sampling, caller: Caller
    ) -> Iterator[Token]:
        if not ids and held.adapter.members[0].past is not None:
            raise RequestError(
                "the prompt is empty, and the model's prefix holds keys and values, from which no "
                "token follows: give a prompt of one token at least",
                "prompt",
            )
        try:
            yield from taken(held.batcher, self.begin(held, ids, sampling, caller), caller.gone)
        except GaveUp as error:
            raise impossible(error, sampling) from error

    def begin(
        self, held: Held, ids: Sequence[int], sampling: Sampling, caller: Caller = NOBODY
    ) -> Request:
        """Put a prompt in line behind what `held` has before it.

        Raises:
            RequestError: there is no room for so many tokens, or no such answer.
        """
        virtual = held.adapter.members[0]
        opens = not (virtual.count or caller.opened)
        opening = [self.texts.tokenizer.bos_token_id] if opens else []
        request = Request(
            [*opening, *ids],
            self._chosen(sampling),
            held.roots[0],
            virtual,
            held.slot,
            caller.tenant,
            len(opening) + caller.shared if caller.shared else 0,
        )
        try:
            return held.batcher.submit(request)
        except TooLarge as error:
            raise RequestError(str(error), "max_tokens", "context_length_exceeded") from error

    def classify(
        self, model: str, texts: Sequence[str], caller: Caller = NOBODY
    ) -> list[dict[str, float]]:
        """See `Engine.classify`.

        Raises:
            RequestError: the base was asked, which has no labels, or the model must not answer.
            ValueError: the adapter has no labels.
        """
        if model == BASE:
            raise RequestError("the base has no labels; name an adapter", "model")
        with self._using(model, caller) as (version, held):
            served = Served(version, held, caller, self._config)
            return classify(served, self.texts.tokenizer, texts)

    def about(self) -> Mapping[str, str]:
        weights = self.batcher.decoder.weights
        device = "cpu" if weights.device is None else weights.device.type
        told = {"engine": BACKEND, "precision": weights.precision, "device": device}
        return told | {name: metadata.version(name) for name in LIBRARIES}

    def close(self) -> None:
        self.shelf.close()
        self.batcher.close()
        self.batcher.turns.close()

    def _prove(self, version: Version, held: Held) -> None:
        """An adapter does what its evaluation saw, and acts. See `proof`."""
        served = Served(version, held, NOBODY, self._config)
        opening = [] if held.adapter.members[0].count else [self.texts.tokenizer.bos_token_id]
        asked = [[*opening, *self.encode(PROBE)]]

        def logits(ids: Sequence[int]) -> torch.Tensor:
            classifier, decoder = held.adapter.classifier, held.batcher.decoder
            finish = (
                decoder.logits if classifier is None else lambda features: features @ classifier
            )
            return served.received([served.reading(ids, 0, [len(ids) - 1], finish)])[0][0]

        if version.evaluation is not None:
            hashes = self._hashes | {"adapter": version.content}
            golden = version.evaluation
            same = SAME[held.batcher.decoder.weights.precision]
            asked = prove_golden(
                golden, hashes, self.encode, lambda p: logits(p["token_ids"]), same
            )
        if version.described["trainable_parameters"]:
            plain = self._plain if held.adapter.classifier is None else _undecided(logits)
            prove_acts(asked, logits, plain)

    def _plain(self, ids: Sequence[int]) -> torch.Tensor:
        """What the base says after those tokens."""
        served = Served(Version(BASE, self.base, None), self.alone, NOBODY, self._config)
        finish = self.batcher.decoder.logits
        return served.received([served.reading(ids, 0, [len(ids) - 1], finish)])[0][0]


def _undecided(logits: Any) -> Any:
    """What a classifier says that has learned nothing: all labels alike."""
    return lambda ids: logits(ids).mean()


def _unavailable(reason: str) -> RequestError:
    return RequestError(f"this model must not answer: {reason}", "model", "model_unavailable")
