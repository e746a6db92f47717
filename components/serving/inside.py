"""Looks into a model: what it expects at each position, where it attends, what its vectors mean.

The engine gives tokens and nothing else, so these open the models' folders themselves, within a
bound of their own.
"""

import json
import math
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from components.serving.engine import RequestError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MOST_TOKENS = 256  # a page shows no more, and attention is their square
EXPECTED = 8  # of the next tokens at each position
NEIGHBOURS = 6  # of each vector
DIGITS = 5
FLOAT_BYTES = 4
Opened = tuple["PreTrainedModel", "PreTrainedTokenizerBase"]


class Inside:
    """One model, open: the base of a folder with the adapter of another, or without."""

    def __init__(
        self, name: str, about: Mapping[str, Any], base: Mapping[str, Any], room: int
    ) -> None:
        """about, base: what an engine tells of the model `name`, and of its base. room: the bytes
        that all open models may take.

        Raises:
            RequestError: this one takes more.
        """
        self.name, self.generates = name, _generates(about["method"])
        folder = Path(about["path"]) if about["method"] else None
        self.model, self.tokenizer = MODELS.get(Path(base["path"]), folder, about["content"], room)

    def predictions(self, text: str) -> dict[str, Any]:
        """The next token's probabilities at each position of `text`.

        Raises:
            RequestError: the text is too long, or the model gives labels.
        """
        import torch

        ids = self._ids(text)
        with torch.inference_mode():
            logits = self._forward(ids).logits[0, -len(ids) :].float()  # (tokens, vocabulary)
        chances = logits.softmax(-1)
        likely, numbers = chances.topk(min(EXPECTED, chances.shape[-1]), -1)
        positions = [
            {
                "piece": self._piece(number),
                "token": number,
                "next": round(float(chances[place, ids[place + 1]]), DIGITS)
                if place + 1 < len(ids)
                else None,
                "expected": [
                    {"piece": self._piece(one), "token": one, "probability": round(chance, DIGITS)}
                    for one, chance in zip(
                        numbers[place].tolist(), likely[place].tolist(), strict=True
                    )
                ],
            }
            for place, number in enumerate(ids)
        ]
        return {"model": self.name, "positions": positions}

    def attention(self, text: str, layer: int, head: int) -> dict[str, Any]:
        """The weights of one head, shape (tokens, virtual tokens + tokens).

        Raises:
            RequestError: there is no such layer or head, or as `predictions`.
        """
        import torch

        config = self.model.config
        self._require("layer", layer, config.num_hidden_layers)
        self._require("head", head, config.num_attention_heads)
        ids = self._ids(text)
        with torch.inference_mode():
            weights = self._forward(ids, output_attentions=True).attentions[layer][0, head]
        rows = weights[-len(ids) :].float()
        virtual = rows.shape[1] - len(ids)
        return {
            "model": self.name,
            "layer": layer,
            "head": head,
            "layers": config.num_hidden_layers,
            "heads": config.num_attention_heads,
            "virtual": virtual,
            "pieces": [self._piece(number) for number in ids],
            "weights": [[round(w, DIGITS) for w in row] for row in rows.tolist()],
        }

    def neighbours(self) -> dict[str, Any]:
        """The vocabulary's tokens nearest to each vector of a soft prompt, by cosine.

        Raises:
            RequestError: the model has no such vectors.
        """
        from torch.nn.functional import normalize

        from components.adapters.encoding import has_virtual_tokens, is_prefix

        if not has_virtual_tokens(self.model):
            raise RequestError(f"'{self.name}' has no soft prompt", "model")
        if is_prefix(self.model):
            raise RequestError(
                f"the prefix of '{self.name}' holds keys and values, which lie near no token",
                "model",
            )
        table = self.model.get_input_embeddings().weight.detach()  # (vocabulary, width)
        vectors = self.model.get_prompt(batch_size=1)[0].detach()  # (virtual tokens, width)
        near, numbers = (normalize(vectors) @ normalize(table).T).topk(NEIGHBOURS, -1)
        typical = float(table.norm(dim=-1).mean())
        return {
            "model": self.name,
            "vectors": [
                {
                    "norm": round(float(vector.norm()) / typical, DIGITS),  # of a usual token's
                    "nearest": [
                        {"piece": self._piece(n), "token": n, "cosine": round(c, DIGITS)}
                        for n, c in zip(found.tolist(), cosines.tolist(), strict=True)
                    ],
                }
                for vector, found, cosines in zip(vectors, numbers, near, strict=True)
            ],
        }

    def _ids(self, text: str) -> list[int]:
        from components.adapters.encoding import as_text, opening, room

        if not self.generates:
            raise RequestError(f"'{self.name}' is a classifier and expects no next token", "model")
        ids = [*opening(self.model, self.tokenizer), *as_text(self.tokenizer, text)]
        most = min(MOST_TOKENS, room(self.model))
        if len(ids) > most:
            raise RequestError(f"{len(ids)} tokens; at most {most} can be shown", "prompt")
        return ids

    def _forward(self, ids: list[int], **wanted: bool) -> Any:
        import torch

        tokens = torch.tensor([ids])
        return self.model(input_ids=tokens, attention_mask=torch.ones_like(tokens), **wanted)

    def _piece(self, number: int) -> str:
        return self.tokenizer.decode([number])

    def _require(self, what: str, number: int, count: int) -> None:
        if number >= count:
            raise RequestError(f"no {what} {number}: there are {count}, from 0 on", what)


def _generates(method: str | None) -> bool:
    from components.adapters import METHODS

    return method is None or METHODS[method].generates


class _Models:
    """Models that are open, with their tokenizers: as many as there is room for."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[Path, Path | None, str], tuple[int, Opened]] = OrderedDict()
        self._opening = Lock()  # who asks for one that is just being opened waits for that

    def get(self, base: Path, folder: Path | None, content: str, room: int) -> Opened:
        """The model of the two folders. content: of `folder`, which may have been made anew; the
        longest unused go where all are more than `room` bytes.

        Raises:
            RequestError: the model alone is.
        """
        key = base, folder, content
        with self._opening:
            if key not in self._open:
                size = max(_bytes(place) for place in (base, folder) if place)
                if size > room:
                    raise RequestError(
                        f"its weights take {size} bytes; this server opens {room} at most for a "
                        "look inside (serving.inspect_bytes)",
                        "model",
                    )
                while sum(taken for taken, _ in self._open.values()) > room - size:
                    self._open.popitem(last=False)
                self._open[key] = size, _opened(base, folder)
            self._open.move_to_end(key)
            return self._open[key][1]


MODELS = _Models()


def _bytes(folder: Path) -> int:
    """What the weights of `folder` take in memory, where they are float32."""
    count = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:  # the length of a JSON header, and that
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        count += sum(math.prod(tensor.get("shape", (0,))) for tensor in header.values())
    return count * FLOAT_BYTES


def _opened(base: Path, folder: Path | None) -> Opened:
    from transformers import AutoTokenizer

    from components.adapters import load_adapter
    from components.models import llama

    model = load_adapter(base, folder) if folder else llama.load(base)
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    inner.set_attn_implementation("eager")  # the others do not tell their weights
    return model, AutoTokenizer.from_pretrained(base)
