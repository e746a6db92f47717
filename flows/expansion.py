"""`dvc.yaml` as a catalogue needs it: the one graph, or, where templates do not reach, a file.

Templates know no optional keys and no lists within lists. A catalogue with a base that is brought
along, with comparisons or with ladders, therefore gets a `dvc.yaml` of its own: the one graph with
what these imply written out. Any `kindling` command keeps it true; a stage that finds it stale says
so.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from components.ladder.block import QUESTIONS, Reader, key, keys
from components.schema import Catalogue

GRAPH = Path(__file__).with_name("graph.yaml")
MORE = Path(__file__).with_name("graph_more.yaml")
FILE = "dvc.yaml"
ROOT = "${root}/"  # before a file of the code, in either graph
HEAD = "# Written by kindling from pipelines.yaml: any command of it, such as 'kindling status',\n"
HEAD += "# writes it anew when the catalogue has changed. Do not edit.\n"


class StaleGraph(ValueError):
    """`dvc.yaml` is not what the catalogue needs."""


def expanded(catalogue: Catalogue) -> str | None:
    """The text of the `dvc.yaml` that `catalogue` needs; None where the one graph says it all."""
    brought = {n: {"base": p.base} for n, p in catalogue.pipelines.items() if p.base}
    if not (brought or catalogue.comparisons or catalogue.ladders):
        return None
    document = YAML(typ="safe").load(GRAPH.read_text(encoding="utf-8"))
    more = YAML(typ="safe").load(MORE.read_text(encoding="utf-8"))["stages"]
    stages = document["stages"]
    for kind, items in _of_pipelines(catalogue).items():
        stages[kind]["foreach"] = items
    filled = {
        "brought": brought,
        "brought_report": {n: {} for n in brought if catalogue.adapters_of(n)},
        **_of_comparisons(catalogue),
        **_of_ladders(catalogue),
    }
    for kind, items in filled.items():
        stages[kind] = {"foreach": items, "do": more[kind]["do"]}
    for block in ("datasets", "tasks", "adapters"):
        if not getattr(catalogue, block):
            stages = {
                k: stage for k, stage in stages.items() if stage["foreach"] != f"${{{block}}}"
            }
    document["stages"] = {kind: stage for kind, stage in stages.items() if stage["foreach"]}
    return HEAD + _text(document)


def code_of(catalogue: Catalogue, stage: str) -> list[str]:
    """The files below `root` that the graph has for `stage`."""
    kind, _ = stage.split("@")
    stages: dict[str, Any] = {}
    for path in (GRAPH, MORE):
        stages |= YAML(typ="safe").load(path.read_text(encoding="utf-8"))["stages"]
    block = catalogue.block(stage)
    method = block.get("adapter", block).get("method", "")
    deps = [dep for dep in stages[kind]["do"]["deps"] if dep.startswith(ROOT)]
    return [dep.removeprefix(ROOT).replace("${item.method}", method) for dep in deps]


def _of_pipelines(catalogue: Catalogue) -> dict[str, dict[str, Any]]:
    """For each stage of the one graph that has one for each pipeline, those that have it here."""
    made = {n: p for n, p in catalogue.pipelines.items() if not p.base}
    read = {n: {"corpus": p.corpus} for n, p in catalogue.pipelines.items() if p.corpus}
    kinds = ("tokenizer", "tokens", "base")
    return {
        **dict.fromkeys(("corpus", "language_model"), read),
        "contamination": {name: {} for name in read if catalogue.tasks_of(name)},
        **{kind: {name: {} for name in made} for kind in kinds},
        "report": {name: {} for name in made if catalogue.adapters_of(name)},
    }


def _of_comparisons(catalogue: Catalogue) -> dict[str, dict[str, Any]]:
    searches, finals = {}, {}
    for name, comparison in catalogue.comparisons.items():
        for entry in comparison.entries(name):
            place = {"comparison": name, "pipeline": entry.pipeline, "task": entry.task}
            place["method"] = entry.adapter.method
            searches[entry.key] = place
            for seed in range(1, comparison.seeds + 1):
                finals[entry.final(seed)] = {**place, "search": entry.key}
    collected = {n: {"task": c.task} for n, c in catalogue.comparisons.items()}
    return {"search": searches, "final": finals, "comparison": collected}


def _of_ladders(catalogue: Catalogue) -> dict[str, dict[str, Any]]:
    """Vocabularies, trainings and measures that some ladder shows, and the ladders."""
    vocabularies: dict[str, Any] = {}
    groups: dict[str, dict[str, Any]] = {}
    for ladder, block in catalogue.ladders.items():
        for name in catalogue.vocabularies_of(ladder):
            vocabularies[name] = _read_by(catalogue.vocabularies[name])
        for name, seed in keys(block.rungs, catalogue.seeds):
            group, item = catalogue.rungs[name].group, _of_rung(catalogue, name)
            for step in ("", "measure_"):
                groups.setdefault(f"{step}{group}", {})[key(name, seed)] = item
    ladders: dict[str, Any] = {name: {} for name in catalogue.ladders}
    return {"vocabulary": vocabularies, **groups, "ladder": ladders}


def _read_by(reader: Reader) -> dict[str, str]:
    """The data sets in a template. Its list has a fixed length, so where there is no second one,
    the place is filled with what is read anyhow, by another path.
    """
    corpus = f"artifacts/datasets/{reader.corpus}"
    also = f"artifacts/datasets/{reader.also}" if reader.also else f"{corpus}/train.jsonl"
    return {"corpus": corpus, "also": also}


def _of_rung(catalogue: Catalogue, name: str) -> dict[str, str]:
    """What stands in a rung's templates, filled up as by `_read_by`."""
    rung = catalogue.rungs[name]
    item = {"rung": name, "vocabulary": rung.vocabulary, **_read_by(rung)}
    corpus = item["corpus"]
    idle = [f"{corpus}/{split}.jsonl" for split in ("validation", "test")]
    files = [*rung.files.values(), *idle][: len(QUESTIONS)]
    return item | {f"file_{number}": path for number, path in enumerate(files, 1)}


def _text(document: dict[str, Any]) -> str:
    import io

    yaml = YAML()
    yaml.width = 4096
    yaml.default_flow_style = False
    yaml.representer.ignore_aliases = lambda _: True
    buffer = io.StringIO()
    yaml.dump(document, buffer)
    return buffer.getvalue()


def renew(workspace: Path, catalogue: Catalogue, say: Callable[[str], None]) -> None:
    """Give `workspace` the `dvc.yaml` that `catalogue` needs, if it has another.

    Raises:
        StaleGraph: the file there is a person's own, which is not overwritten.
    """
    path = workspace / FILE
    wanted = expanded(catalogue)
    if _is(path, wanted):
        return
    if not _ours(path):
        raise StaleGraph(
            f"{path} is neither kindling's graph nor written by it, and the catalogue needs "
            "another; move your own stages to a dvc.yaml in a folder below, and delete this one"
        )
    if wanted is None:
        link(workspace)
    else:
        temporary = path.with_name(f".{FILE}.{os.getpid()}")
        temporary.write_text(wanted, encoding="utf-8")
        os.replace(temporary, path)
    say(f"{FILE} was written anew: the catalogue's comparisons, ladders or bases have changed")


def require_current(workspace: Path, catalogue: Catalogue) -> None:
    """Refuse to work by an old graph.

    Raises:
        StaleGraph: it is not what the catalogue needs.
    """
    if not _is(workspace / FILE, expanded(catalogue)) and _ours(workspace / FILE):
        raise StaleGraph(
            f"{FILE} is older than pipelines.yaml, whose comparisons, ladders or bases have "
            "changed; run 'kindling status', which writes it anew, and the same command again"
        )


def _is(path: Path, wanted: str | None) -> bool:
    wanted = GRAPH.read_text(encoding="utf-8") if wanted is None else wanted
    return path.is_file() and path.read_text(encoding="utf-8") == wanted


def _ours(path: Path) -> bool:
    if path.is_symlink() or not path.exists():
        return True
    text = path.read_text(encoding="utf-8")
    return text.startswith((HEAD, GRAPH.read_text(encoding="utf-8")[:80]))


def link(workspace: Path, code: Path = GRAPH.parents[1]) -> None:
    """Give `workspace` the one graph: by a link within the repository `code`, else by a copy."""
    path = workspace / FILE
    path.unlink(missing_ok=True)
    if not (workspace.resolve().is_relative_to(code) and (code / ".dvc").is_dir()):
        path.write_bytes(GRAPH.read_bytes())
        return
    target = code / FILE if workspace.resolve() != code else code / "flows" / GRAPH.name
    path.symlink_to(os.path.relpath(target, workspace))
