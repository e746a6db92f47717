"""Where a stage's folders are, and to which pipeline it belongs: names become paths here."""

from collections.abc import Mapping
from typing import Any

from components.catalogue import Catalogue
from components.ladder.block import GROUPS, key, keys
from flows.stages import STAGES
from flows.tracking import UNOWNED

COMPARED = ("search", "final")  # stages whose names are made from a comparison's lists
CLIMBED = tuple(f"{step}{group}" for group in GROUPS for step in ("", "measure_"))  # and seeds


def places(catalogue: Catalogue, stage: str) -> tuple[str, tuple[str, ...]]:
    """The output and the inputs of `stage`, as folders below `artifacts/`.

    Raises:
        ValueError: there is no such stage.
    """
    kind, _, name = stage.partition("@")
    known = _known(catalogue, kind)
    if kind not in STAGES or name not in known:
        raise ValueError(
            f"no stage '{stage}'; stages are {', '.join(f'{k}@NAME' for k in STAGES)}; "
            f"names for {kind or 'it'}: {', '.join(known)}"
        )
    entry = STAGES[kind]
    fill = {"name": name, **_words(catalogue, kind, name)}
    several = _several(catalogue, name)
    inputs = [
        text.format(**fill, **dict.fromkeys(several, each))
        for text in entry.inputs
        for each in next((found for word, found in several.items() if f"{{{word}}}" in text), [""])
        if fill.get("also") or "{also}" not in text
    ]
    return entry.output.format(**fill), tuple(inputs)


def _several(catalogue: Catalogue, name: str) -> dict[str, list[str]]:
    """What stands for each of many in the inputs of a stage of pipeline, comparison or ladder
    `name`.
    """
    tasks = catalogue.tasks_of(name) if name in catalogue.pipelines else []
    climbed = name in catalogue.ladders
    rungs = catalogue.ladders[name].rungs if climbed else []
    return {
        "each_task": tasks,
        "each_adapter": catalogue.adapters_of(name),
        "each_final": catalogue.finals_of(name) if name in catalogue.comparisons else [],
        "each_training": [key(*training) for training in keys(rungs, catalogue.seeds)],
        "each_vocabulary": catalogue.vocabularies_of(name) if climbed else [],
    }


def _blocks(catalogue: Catalogue, kind: str) -> Mapping[str, Any]:
    """The blocks that stages of `kind` are made of, one each."""
    of_kind = {
        "dataset": catalogue.datasets,
        **dict.fromkeys(("task", "controls"), catalogue.tasks),
        **dict.fromkeys(("adapter", "evaluation", "random"), catalogue.adapters),
        "comparison": catalogue.comparisons,
        "vocabulary": catalogue.vocabularies,
        "ladder": catalogue.ladders,
    }
    return of_kind.get(kind, catalogue.pipelines)


def _known(catalogue: Catalogue, kind: str) -> list[str]:
    """The names that a stage of `kind` may have."""
    if kind not in (*COMPARED, *CLIMBED):
        return list(_blocks(catalogue, kind))
    all_stages = [s for name in catalogue.targets for s in catalogue.stages_of(name)]
    return [stage.partition("@")[2] for stage in all_stages if stage.startswith(f"{kind}@")]


def _words(catalogue: Catalogue, kind: str, name: str) -> dict[str, str]:
    """What stands in the paths of a stage, beside its name."""
    if kind in COMPARED:
        entry = catalogue.entry(name) if kind == "search" else catalogue.final(name)[0]
        place = {"comparison": entry.comparison, "search": entry.key}
        return {**place, "pipeline": entry.pipeline, "task": entry.task}
    if kind in CLIMBED:
        rung = catalogue.rungs[catalogue.rung(name)[0]]
        return {"corpus": rung.corpus, "also": rung.also or "", "vocabulary": rung.vocabulary}
    block = _blocks(catalogue, kind)[name]
    return {
        key: getattr(block, key, "") for key in ("pipeline", "task", "dataset", "corpus", "also")
    }


def pipeline_of(catalogue: Catalogue, stage: str) -> str:
    """The pipeline whose MLflow experiment `stage` belongs to; shared stages have their own."""
    kind, name = stage.split("@")
    if kind in ("adapter", "evaluation", "random"):
        return catalogue.adapters[name].pipeline
    if kind in (*COMPARED, *CLIMBED, "comparison", "dataset", "task", "controls", "vocabulary"):
        return _user_of(catalogue, stage)
    return name


def _user_of(catalogue: Catalogue, stage: str) -> str:
    users = [name for name in catalogue.targets if stage in catalogue.stages_of(name)]
    return users[0] if users else UNOWNED
