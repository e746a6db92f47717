"""Texts cut into tokens, by the tokenizer of the models that are served or another one."""

from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.lineage import LINEAGE, file_hash, read_json
from components.serving.engine import RequestError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HELD = 8  # tokenizers in memory
FILE = "tokenizer.json"


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
    tokenizer = _current(folders[chosen])
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
    """Name and size of each tokenizer that is there."""
    found = []
    for name, path in folders.items():
        with suppress(RequestError):
            found.append({"id": name, "vocabulary": len(_current(path))})
    return found


def there(folder: Path) -> bool:
    """Whether `folder` holds a tokenizer: that of a workspace goes while it is made anew."""
    return (folder / FILE).is_file()


def _current(folder: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer that `folder` holds at this moment.

    Raises:
        RequestError: it is just being made anew.
    """
    try:
        made = folder / LINEAGE
        content = read_json(made)["content"] if made.is_file() else file_hash(folder / FILE)
        return _opened(folder, content)
    except OSError as error:
        raise RequestError(
            f"the tokenizer is not there at the moment ({error}); ask again",
            "tokenizer",
            "model_unavailable",
        ) from error


@lru_cache(HELD)
def _opened(folder: Path, content: str) -> "PreTrainedTokenizerBase":
    """content: of the folder, which may have been made anew."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)
