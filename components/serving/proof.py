"""Load proof: an adapter answers only where it does what its evaluation saw it do.

Servers have accepted adapters and let the base answer in their name. Here an adapter is asked the
golden prompts of its evaluation when it is loaded, and what it says must be what it said then.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.lineage import content_of, folder_hash, read_json

if TYPE_CHECKING:
    import torch

ACTS = 1e-4  # the least change of a logit that proves an adapter at work; float32 noise is 1e-6
SAME = {  # golden logits have four digits behind the point
    "float32": 1e-3,  # whose noise is 1e-5
    "bfloat16": 0.25,  # whose noise on logits about 10 is 0.03 on average: eight times that
}
Logits = Callable[[Sequence[int]], "torch.Tensor"]
OfGolden = Callable[[Mapping[str, Any]], "torch.Tensor"]


class Refused(ValueError):
    """An adapter that must not answer; the message is the reason."""


def prove_bytes(folder: Path, described: Mapping[str, Any], base: str) -> None:
    """The folder is what its lineage says, made for the base with the content hash `base`.

    Raises:
        Refused: it is not.
    """
    stated, found = content_of(folder), folder_hash(folder)
    if stated != found:
        raise Refused(
            f"its files have content {found[:12]}, its lineage says {stated[:12]}: they were "
            "changed; run 'dvc repro', or register it again"
        )
    if described["base"] != base:
        raise Refused(
            f"it was trained on base {described['base'][:12]}, served is {base[:12]}; serve its "
            "own base, or run 'dvc repro'"
        )


def prove_golden(
    evaluation: Path,
    content: Mapping[str, str],
    encode: Callable[[str], Sequence[int]],
    logits: OfGolden,
    same: float = SAME["float32"],
) -> list[list[int]]:
    """The golden prompts' tokens; their logits are now what they were in the evaluation.

    content: the hashes of `adapter`, `base` and `tokenizer` as they are served. encode: a text's
    tokens; logits: what the adapter says after a golden prompt, by its `prompt` or `token_ids`;
    same: by how much a logit may differ.

    Raises:
        Refused: another adapter, base or tokenizer was evaluated, or a logit differs.
    """
    golden = read_json(evaluation / "golden.json")
    for name, served in content.items():
        if golden.get(name, served) != served:
            raise Refused(
                f"it was evaluated with {name} {golden[name][:12]}, served is {served[:12]}; run "
                "'dvc repro' to evaluate it as it is"
            )
    for prompt in golden["prompts"]:
        ids = prompt["token_ids"]
        if not _ends(ids, encode(prompt["prompt"])):
            raise Refused(
                f"the tokenizer reads the golden prompt {prompt['prompt'][:40]!r} otherwise than "
                "the evaluation did; run 'dvc repro'"
            )
        said = logits(prompt)
        for token, value in prompt["logits"].items():
            if abs(float(said[int(token)]) - value) > same:
                raise Refused(
                    f"after {prompt['prompt'][:40]!r} it gives token {token} the logit "
                    f"{float(said[int(token)]):.4f}, in its evaluation it was {value:.4f}"
                )
    return [prompt["token_ids"] for prompt in golden["prompts"]]


def prove_acts(asked: Sequence[Sequence[int]], logits: Logits, plain: Logits) -> None:
    """Somewhere it says something else than `plain`, what stands for having learned nothing.

    Raises:
        Refused: it does not.
    """
    if not any(bool((logits(ids) - plain(ids)).abs().max() > ACTS) for ids in asked):
        raise Refused("it changes nothing: it would answer as the base; train it again")


def _ends(ids: Sequence[int], text: Sequence[int]) -> bool:
    """Whether `ids` are an opening and the end of `text`, whose beginning may be cut."""
    size = min(len(ids), len(text))
    return not size or list(ids[-size:])[1:] == list(text[-size:])[1:]
