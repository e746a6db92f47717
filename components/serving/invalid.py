"""What is wrong with a request's body, in words: the field, its value, and what may stand there."""

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError

JSON_WORDS = {None: "null", True: "true", False: "false"}
JSON_KIND = "application/json"
PREFIX = "Input should be "  # of most of pydantic's messages

_short = reprlib.Repr()
_short.maxlevel, _short.maxlist, _short.maxdict = 2, 4, 4
_short.maxstring, _short.maxlong, _short.maxother = 60, 40, 60

Place = tuple[str | int, ...]


def shown(value: Any) -> str:
    """A value as an error quotes it: never longer than a line, however large it is."""
    if value is None or isinstance(value, bool):
        return JSON_WORDS[value]
    return _short.repr(value)


def described(error: RequestValidationError, kind: str | None) -> tuple[str, str | None]:
    """The message, and the field at fault; None where it is the body. kind: its Content-Type."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return f"the body is no JSON: {first['ctx']['error']} at character {first['loc'][-1]}", None
    if isinstance(error.body, bytes):  # read as JSON only where it says that it is
        named = f"'{shown(kind)[1:-1]}'" if kind else "missing"
        return f"the body is no JSON: its Content-Type is {named}, not {JSON_KIND}", None
    if len(first["loc"]) == 1 and "said" not in first.get("ctx", {}):
        return f"the body is {shown(error.body)}; it should be a JSON object", None
    placed = [(_place(one, error.body), one) for one in error.errors()]
    place = max((place for place, _ in placed), key=len)  # in a union, the one that fits best
    return _said(place, [one for other, one in placed if other == place]), _named(place) or None


def unread(error: BaseException | None) -> str | None:
    """What is wrong with a body that could not be read for `error`; None for any other error."""
    if isinstance(error, RecursionError):
        return "the body is nested too deeply"
    return f"the body is no UTF-8: {error}" if isinstance(error, UnicodeDecodeError) else None


def _place(error: Mapping[str, Any], body: Any) -> Place:
    """The fields and positions that lead to a mistake, of those that pydantic names: it adds the
    types of a union, which nobody has sent.
    """
    place: list[str | int] = []
    for part in error["loc"][1:]:
        inside = isinstance(body, dict) and part in body
        if inside or (isinstance(body, list) and isinstance(part, int) and part < len(body)):
            place.append(part)
            body = body[part]
    if error["type"] == "missing":
        place.append(error["loc"][-1])
    if field := error.get("ctx", {}).get("field"):
        place.append(field)
    return tuple(place)


def _said(place: Place, errors: Sequence[Mapping[str, Any]]) -> str:
    """What is wrong at a place. errors: more than one where it may be of several types."""
    name, first = _named(place), errors[0]
    for error in errors:
        if "said" in error.get("ctx", {}):
            return error["ctx"]["said"]
    if first["type"] == "missing":
        return f"{name} is missing"
    # a value of the right type says more than what the other types would be
    told = [one for one in errors if not one["type"].endswith("_type")] or errors
    wanted = dict.fromkeys(one["msg"].removeprefix(PREFIX) for one in told)
    verb = "it should be " if told[0]["msg"].startswith(PREFIX) else ""
    return f"{name} is {shown(told[0]['input'])}; {verb}{' or '.join(wanted)}"


def _named(place: Place) -> str:
    """As OpenAI names a field: `messages[0].content`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return "".join(parts).removeprefix(".")
