"""Whether an adapter can label texts: what its evaluation would cut is refused by a server."""

from collections.abc import Mapping, Sequence
from typing import Any

from components.prompts import render, variables_of
from components.serving.engine import BASE, Engine, RequestError


def require_labels(engine: Engine, inner: str, texts: Sequence[str], most: int) -> None:
    """Refuse what cannot be labelled as it is. inner: an adapter, as the engine calls it.

    Worked examples before a text may lose their beginning, as they did in the adapter's evaluation.
    most: tokens of a text in the adapter's wording.

    Raises:
        RequestError: the adapter gives no labels, takes more than one text, or has no room for a
            text and its longest label.
    """
    about = engine.model(inner)
    if about is None:
        return  # it was refused a moment ago; the engine says why
    described = about["described"]
    name, prompt, labels = described["name"], described["prompt"], described["labels"]
    if not labels:
        raise RequestError(
            f"adapter {name} writes texts and has no labels to choose from; ask /v1/completions, "
            f"with template {prompt['name']}",
            "model",
        )
    variables = variables_of(prompt["template"])
    if len(variables) != 1:
        said = f"adapter {name} needs {', '.join(variables)}; classification takes one text"
        raise RequestError(said, "model")
    room = _room(engine, inner, described)
    for number, text in enumerate(texts):
        size = len(engine.encode(render(prompt["template"], {variables[0]: text})))
        where = f"input[{number}] has {size} tokens in the wording of adapter {name}"
        if size > most:
            raise RequestError(
                f"{where}; this server takes {most} (serving.prompt_tokens)", "input"
            )
        if size > room:
            raise RequestError(
                f"{where}, which has room for {room} before its longest label; it is never cut, so "
                "shorten it",
                "input",
                "context_length_exceeded",
            )
        if not size and not prompt["shot_texts"] and described["settings"].get("virtual_tokens"):
            raise RequestError(f"{where}; a soft prompt needs one before its label", "input")


def _room(engine: Engine, inner: str, described: Mapping[str, Any]) -> int:
    """Tokens that a text may have in its wording."""
    if described["method"] == "head":  # which writes no label behind it
        return engine.room(BASE)
    longest = max(len(engine.encode_fixed(answer)) for answer in described["labels"].values())
    return engine.room(inner) - longest
