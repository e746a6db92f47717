"""Load proof: an adapter answers only where it does what its evaluation saw it do.

Servers have accepted adapters and let the base answer in their name. Here an adapter is asked the
golden prompts of its evaluation when it is loaded, and what it says must be what it said then.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.lineage import LINEAGE, content_of, folder_hash, read_json

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


def about_base(folder: Path) -> dict[str, Any]:
    """What an engine tells of its base, read once: the folder may be made anew meanwhile.

    created: when its lineage was written, in seconds since 1970.

    Raises:
        OSError, ValueError: it is no folder that a stage made.
    """
    return {
        "content": content_of(folder),
        "path": str(folder),
        "method": None,
        "created": int((folder / LINEAGE).stat().st_mtime),
    }


def proven_base(folder: Path) -> dict[str, Any]:
    """As `about_base`, of a folder whose files are those that its lineage names.

    Raises:
        OSError, ValueError: it is no folder that a stage made, or was changed since.
    """
    about = about_base(folder)
    if folder_hash(folder) != about["content"]:
        raise ValueError(
            f"the files of {folder} are not those that its lineage.json names; run 'dvc repro'"
        )
    return about


def about_adapter(folder: Path) -> dict[str, Any]:
    """As `about_base`, of an adapter. described: what its adapter.json says.

    Raises:
        OSError, ValueError, KeyError, TypeError: it is no folder of an adapter.
    """
    about = about_base(folder)  # its hash first: what is made anew from here on will not have it
    described = read_json(folder / "adapter.json")
    return about | {
        "method": described["method"],
        "task": described["task"],
        "prompt": {key: described["prompt"][key] for key in ("name", "sha")},
        "described": described,
    }


def prove_bytes(folder: Path, about: Mapping[str, Any], base: str) -> None:
    """The folder is what its lineage and `about` say, made for the base with the content hash
    `base`. about: what the engine tells of it since it was added.

    Raises:
        Refused: it is not.
    """
    stated, found = content_of(folder), folder_hash(folder)
    if stated != found:
        raise Refused(
            f"its files have content {found[:12]}, its lineage says {stated[:12]}: they were "
            "changed; run 'dvc repro', or register it again"
        )
    if found != about["content"]:
        raise Refused(
            f"it was made anew: its content was {about['content'][:12]} and is {found[:12]}; start "
            "the server again"
        )
    own = about["described"]["base"]
    if own != base:
        raise Refused(
            f"it was trained on base {own[:12]}, served is {base[:12]}; serve its own base, or run "
            "'dvc repro'"
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
