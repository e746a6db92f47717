"""How much a score hangs on the wording of a template, and on the order of its worked examples."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import factorial
from pathlib import Path
from random import Random

from components.adapters.task_data import training_rows
from components.lineage import read_json
from components.prompts import choose_shots

# the score of rows, each with its "prompt", under a wording: its "template" and "shot_texts"
Score = Callable[[Sequence[Mapping], Mapping], float]


def sensitivity(
    description: Mapping, task: Path, rows: Sequence[Mapping], own: float, score: Score
) -> dict[str, dict]:
    """The scores of an adapter under each paraphrase of its prompt and each order of its shots.

    description: its adapter.json. rows: on which all are scored. own: the score in the adapter's
    own wording and order, which counts in.

    Returns the spread (see `spread`) by what was varied, "paraphrases" and "orders"; neither where
    the prompt and the adapter ask for none.
    """
    prompt = description["prompt"]
    found = {}
    texts = [{"template": prompt["template"], "score": own}]
    for number, wording in enumerate(_paraphrased(description, task)):
        asked = [_reworded(row, number) for row in rows]
        texts.append({"template": wording["template"], "score": score(asked, wording)})
    shots = prompt["shot_texts"]
    orders = [{"order": list(range(len(shots))), "score": own}]
    for order in _orders(len(shots), description["settings"]):
        wording = {"template": prompt["template"], "shot_texts": [shots[n] for n in order]}
        orders.append({"order": list(order), "score": score(rows, wording)})
    for name, variants in (("paraphrases", texts), ("orders", orders)):
        if len(variants) > 1:
            found[name] = spread(variants)
    return found


def spread(variants: Sequence[Mapping]) -> dict[str, object]:
    """The least, the middle and the best of `variants`, each as it is with its own "score".

    Of an even number, the lower of the two in the middle: one that exists. "variants" holds all in
    the order they came.
    """
    ranked = sorted(variants, key=lambda variant: variant["score"])
    middle = ranked[(len(ranked) - 1) // 2]
    return {"min": ranked[0], "median": middle, "max": ranked[-1], "variants": list(variants)}


def _reworded(row: Mapping, number: int) -> dict:
    return {**row, "prompt": row["paraphrases"][number]}


def _paraphrased(description: Mapping, task: Path) -> Iterator[dict]:
    """The wordings of the task's paraphrases, the same worked examples worded like each.

    The task's, for its rows are rendered with them: an adapter may be older.
    """
    settings, shots = description["settings"], description["prompt"]["shots"]
    rows = training_rows(task, settings["examples"], settings["seed"])
    for number, template in enumerate(read_json(task / "task.json")["prompt"]["paraphrases"]):
        train = (_reworded(row, number) for row in rows)
        yield {"template": template, "shot_texts": choose_shots(train, shots, settings["seed"])}


def _orders(shots: int, settings: Mapping) -> Iterator[tuple[int, ...]]:
    """Other orders of so many shots, until there are enough of them with the adapter's own."""
    wanted = min(settings.get("orders", 1), factorial(shots))
    draw, seen = Random(settings["seed"]), {tuple(range(shots))}
    while len(seen) < wanted:
        order = tuple(draw.sample(range(shots), shots))
        if order not in seen:
            seen.add(order)
            yield order
