"""Which of the choices that a method leaves to a search are possible on a base and for a task."""

from typing import Any

from components.adapters.encoding import as_text
from components.adapters.training import fitting_of, rows_and_shots
from components.comparison import space
from components.comparison.block import Entry, is_trained
from components.comparison.ground import SEED, Ground
from components.lineage import read_jsonl
from components.prompts import with_shots


def choices_of(entry: Entry, ground: Ground) -> dict[str, tuple]:
    """The values by setting that a search tries: what is impossible is left out.

    Such as an ensemble whose members would all begin as the same few labels, or more shots than
    there are rows, or than the context has room for.

    Raises:
        ValueError: no value of a setting is possible; the message is that of the last.
    """
    found = {}
    for name, values in space.open_choices(entry.adapter).items():
        whys = {value: _why_not(entry.block({name: value}, SEED, 0), ground) for value in values}
        found[name] = tuple(value for value in values if whys[value] is None)
        if not found[name]:
            raise ValueError(
                f"comparisons.{entry.comparison}.methods.{entry.name}: no {name} is possible of "
                f"{', '.join(map(str, values))}; {whys[values[-1]]}"
            )
    return found


def _why_not(block: Any, ground: Ground) -> str | None:
    """Why `block` cannot be made; None where it can."""
    try:
        if is_trained(block):
            fitting_of(block, ground.task, ground.base)
        else:
            _require_room(block, ground)
    except ValueError as error:
        return str(error)
    return None


def _require_room(block: Any, ground: Ground) -> None:
    """Raise ValueError where the shots leave no room for a prompt of middle length."""
    from transformers import AutoConfig, AutoTokenizer

    _, shot_texts = rows_and_shots(block, ground.task)
    if not shot_texts:
        return
    asked = sorted(read_jsonl(ground.task / "validation.jsonl"), key=_length)
    middle = asked[len(asked) // 2]
    tokenizer = AutoTokenizer.from_pretrained(ground.base)
    context = AutoConfig.from_pretrained(ground.base).max_position_embeddings
    texts = (with_shots(shot_texts, middle["prompt"]), middle["answer"])
    tokens = 1 + sum(len(as_text(tokenizer, text)) for text in texts)  # 1 opens the document
    if tokens > context:
        raise ValueError(f"{block.shots} shots and a prompt need {tokens} tokens of {context}")


def _length(row: dict[str, str]) -> int:
    return len(row["prompt"]) + len(row["answer"])
