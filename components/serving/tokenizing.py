"""Texts cut into tokens, by the tokenizer of the models that are served or another one."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.serving.engine import RequestError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HELD = 8  # tokenizers in memory


def tokenize(folders: Mapping[str, Path], name: str | None, text: str, most: int) -> dict[str, Any]:
    """The tokens of `text`, in which nothing is a command; `spans` in characters.

    folders: of tokenizers by name, the first is the default. most: so many tokens are given.

    Raises:
        RequestError: no such tokenizer, or too many tokens.
    """
    chosen = name if name is not None else next(iter(folders))
    if chosen not in folders:
        known = ", ".join(folders)
        raise RequestError(f"no tokenizer '{name}'; there are: {known}", "tokenizer", "not_found")
    tokenizer = _opened(folders[chosen])
    read = tokenizer(
        text,
        add_special_tokens=False,
        split_special_tokens=True,
        return_offsets_mapping=True,
    )
    ids = read["input_ids"]
    if len(ids) > most:
        raise RequestError(
            f"the text has {len(ids)} tokens; this server tells {most} at most "
            "(serving.prompt_tokens)",
            "input",
        )
    return {
        "tokenizer": chosen,
        "tokens": ids,
        "pieces": [tokenizer.decode([number]) for number in ids],
        "spans": read["offset_mapping"],
        "count": len(ids),
        "characters": len(text),
    }


def described(folders: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Name and size of each tokenizer."""
    return [{"id": name, "vocabulary": len(_opened(path))} for name, path in folders.items()]


@lru_cache(HELD)
def _opened(folder: Path) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)
