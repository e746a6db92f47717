"""What is wrong in a catalogue, in words: a line, the place, the value, and a remedy."""

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_origin

from components.block import Block


class CatalogueError(ValueError):
    """The catalogue, or a change to it, is wrong; the message names place, value and remedy."""


@dataclass(frozen=True)
class Mistake:
    """place: the keys that lead to it."""

    place: tuple[Any, ...]
    said: str


def suggestion(value: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'? known: a, b` for an error about an unknown name."""
    known = sorted(known)
    close = difflib.get_close_matches(str(value), known, n=1)
    guess = f"; did you mean '{close[0]}'?" if close else ";"
    return f"{guess} known: {', '.join(known) or '(none)'}"


def known(catalogue: Any, place: tuple[Any, ...], value: Any, block: str) -> Iterator[Mistake]:
    """Nothing where `block` of the catalogue has a block called `value`; else that it has none."""
    names = getattr(catalogue, block)
    if value not in list(names):  # a deployment may hold anything, even what has no hash
        yield Mistake(place, f"no {block} block is called '{value}'{suggestion(value, names)}")


def sentence(file: str, document: Any, place: Sequence[Any], said: str) -> str:
    """`FILE:LINE: a.b.c: what is wrong`, for the keys of `place`."""
    line = _line(document, place)
    where = f"{file}:{line}" if line else file
    return f"{where}: {'.'.join(map(str, place)) or 'the file'}: {said}"


def describe(error: dict[str, Any], document: Any, file: str, model: type[Block]) -> str:
    """One of pydantic's errors about `document`, which is no `model`, in a sentence."""
    place = _place(error["loc"], document)
    teller = TELLERS.get(error["type"])
    if teller is None:
        said = f"{error['msg']} (got {error['input']!r})"
    else:
        block = place if error["type"].startswith("union_tag") else place[:-1]
        place, said = teller(error, place, _candidates(model, block, document))
    return sentence(file, document, place, said)


def _place(location: Sequence[Any], document: Any) -> list[Any]:
    """The keys of the file that `location` names; pydantic adds the tags of its unions."""
    location = [part for part in location if not str(part).startswith("function-")]
    kept, inner = [], document
    for part in location:
        if isinstance(inner, dict):
            if part not in inner and part != location[-1]:
                continue
            inner = inner.get(part, inner)
        elif isinstance(inner, list) and isinstance(part, int):
            inner = inner[part]
        else:
            continue
        kept.append(part)
    return kept


def _line(document: Any, place: Sequence[Any]) -> int | None:
    """The line (from 1) of the deepest part of `place` that stands in the file."""
    line = None
    for part in place:
        if not isinstance(document, (dict, list)):
            break
        try:
            line = document.lc.key(part)[0] + 1 if isinstance(document, dict) else line
            document = document[part]
        except (KeyError, IndexError, TypeError):
            break
    return line


TAGS = ("method", "family")  # the keys that say which of several blocks one is
Told = tuple[list[Any], str]  # where, and what is wrong there


def _unknown(error: dict[str, Any], place: list[Any], models: list[type[Block]]) -> Told:
    known = models[0].model_fields if models else []
    return place, f"unknown key '{place[-1]}'{suggestion(str(place[-1]), known) if known else ''}"


def _missing(error: dict[str, Any], place: list[Any], models: list[type[Block]]) -> Told:
    field = models[0].model_fields.get(str(place[-1])) if models else None
    example = f"; add '{place[-1]}: {field.examples[0]}'" if field and field.examples else ""
    return place, f"this key is missing{example}"


def _no_tag(error: dict[str, Any], place: list[Any], models: list[type[Block]]) -> Told:
    """The key that says which block it is, as adapters' `method`: misspelt, or not there."""
    key = error["ctx"]["discriminator"].strip("'")
    close = difflib.get_close_matches(key, map(str, error["input"]), n=1)
    if close:
        return [*place, close[0]], f"unknown key '{close[0]}'; did you mean '{key}'?"
    tags = ", ".join(tag for model in models for tag in _tags(model, key))
    return [*place, key], f"this key is missing; known: {tags}"


def _wrong_tag(error: dict[str, Any], place: list[Any], models: list[type[Block]]) -> Told:
    key, tag = error["ctx"]["discriminator"].strip("'"), error["ctx"]["tag"]
    tags = [known for model in models for known in _tags(model, key)]
    return [*place, key], f"there is no {key} '{tag}'{suggestion(tag, tags)}"


def _refused(error: dict[str, Any], place: list[Any], models: list[type[Block]]) -> Told:
    """By a block's own check, whose words name the value."""
    return place, str(error["ctx"]["error"])


def _no_choice(error: dict[str, Any], place: list[Any], models: list[type[Block]]) -> Told:
    """A value that is none of those that the key may have."""
    known = re.findall(r"'([^']*)'", error["ctx"]["expected"])
    return place, f"there is no {place[-1]} '{error['input']}'{suggestion(error['input'], known)}"


def _no_number(error: dict[str, Any], place: list[Any], models: list[type[Block]]) -> Told:
    wanted = "a whole number" if error["type"].startswith("int") else "a number"
    return place, f"expected {wanted}, got {error['input']!r}"


def _no_block(error: dict[str, Any], place: list[Any], models: list[type[Block]]) -> Told:
    return place, f"expected keys with values below it, got {error['input']!r}"


TELLERS = {
    "value_error": _refused,
    "extra_forbidden": _unknown,
    "missing": _missing,
    "union_tag_not_found": _no_tag,
    "union_tag_invalid": _wrong_tag,
    "literal_error": _no_choice,
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float"), _no_number),
    **dict.fromkeys(("float_parsing", "float_type"), _no_number),
    **dict.fromkeys(("model_type", "dict_type", "model_attributes_type"), _no_block),
}


def _candidates(model: type[Block], place: Sequence[Any], document: Any) -> list[type[Block]]:
    """The models that the block at `place` may have; none if no block stands there."""
    found, named = [model], False
    for part in place:
        document = document.get(part) if isinstance(document, dict) else None
        if named:  # `part` is what the catalogue calls a block, not a key of one
            named = False
            continue
        field = found[0].model_fields.get(str(part))
        found = _models(field.annotation) if field else []
        if not found:
            return []
        named = get_origin(field.annotation) is dict
    if len(found) > 1 and isinstance(document, dict):  # a key says which it is
        key = next((key for key in TAGS if key in found[0].model_fields), "")
        found = [m for m in found if document.get(key) in _tags(m, key)] or found
    return found


def _models(annotation: Any) -> list[type[Block]]:
    """The blocks that a field's annotation names."""
    if isinstance(annotation, type) and issubclass(annotation, Block):
        return [annotation]
    inner = getattr(annotation, "__args__", ())
    return [model for argument in inner for model in _models(argument)]


def _tags(model: type[Block], key: str) -> tuple[str, ...]:
    return getattr(model.model_fields[key].annotation, "__args__", ())
