"""Write the code that each DVC stage imports into the graphs: `python -m tests.declare`.

`tests/test_architecture.py` says so where the graphs and the imports differ.
"""

from copy import deepcopy
from functools import cache

import grimp

from components.adapters import METHODS
from components.catalogue import load
from components.ladder.block import GROUPS
from flows.expansion import GRAPH, MORE, renew
from flows.stages import STAGES
from tests.conftest import ROOT

# what each stage calls: its component's modules
ENTRY = {
    "dataset": ["components.ingest"],
    "task": ["components.tasks"],
    "controls": ["components.evaluation.controls"],
    "corpus": ["components.corpus"],
    "tokenizer": ["components.tokenizer"],
    "tokens": ["components.tokens"],
    "base": [f"components.training.{name}" for name in ("pretrain", "worker", "ray_train")],
    "language_model": ["components.evaluation.language_model"],
    "adapter": ["components.adapters.training"],
    "evaluation": ["components.evaluation"],
    # the same adaptation, by what trains and judges the real one, on whose results it depends
    "random": ["components.models.llama"],
    "contamination": ["components.evaluation.contamination"],
    "report": ["components.report.page"],
    "brought": ["components.models.brought"],
    "brought_report": ["components.report.page"],
    "search": ["components.comparison.search"],
    "final": ["components.comparison.final"],
    "comparison": ["components.comparison.result"],
    "vocabulary": ["components.ladder.vocabulary"],
    **{g: [f"components.ladder.{g}", "components.ladder.rates"] for g in GROUPS},
    "embedding": ["components.ladder.embedding"],  # which tries no rates
    **{f"measure_{g}": [f"components.ladder.{g}_measures"] for g in GROUPS},
    "ladder": ["components.report.ladder.book"],
}
# imported, yet no dependency of any stage, each for its reason
EXEMPT = {
    "components": "an empty package",
    "components.block": "the base of all blocks: it forbids unknown keys and shapes no result",
    "components.locks": "who works, not what comes of it",
    "components.mistakes": "the words of errors",
    "components.reporter": "a protocol without behaviour",
    "components.models": "an empty package",
    "components.training": "an empty package",
    "components.report": "an empty package",
    "components.comparison": "an empty package",
    "components.ladder": "an empty package",
    "components.report.ladder": "an empty package",
    "components.ladder.block": "blocks: a rung's own is one of its stage's params",
    "components.ladder.ground": "paths, without behaviour",
    "components.ladder.climb": "paths, without behaviour",
}
# reached through a module of which the stage uses another part: tokens.py both encodes and reads,
# and importing a module of a package imports the package
HOW_TO_TRAIN = {"components.ladder.training", "components.training.settings"}
UNUSED = {
    "base": {"components.tokenizer"},
    "language_model": {"components.documents", "components.evaluation.metrics"},
    "controls": {"components.evaluation"},
    "report": {"components.evaluation"},
    "brought_report": {"components.evaluation"},
    **dict.fromkeys(("evaluation", "comparison"), HOW_TO_TRAIN),
    **dict.fromkeys(("measure_language", "measure_bert"), HOW_TO_TRAIN),
}
PAGES = {
    "report": ("page.html", "style.css"),
    "brought_report": ("page.html", "style.css"),
    "comparison": ("comparison.html", "style.css"),
    "ladder": ("ladder/book.html", "style.css"),
}
OF_METHOD = {f"components.adapters.{name}" for name in METHODS}
CODE = "        - ${root}/"
CLIMBED = {"ladder", *(f"{step}{group}" for group in GROUPS for step in ("", "measure_"))}


def code_of(stage: str, imports: grimp.ImportGraph) -> list[str]:
    """The files below the root that `stage` depends on, as its template names them.

    Of the adapters' methods only that of the stage's own block: the others' files are imported, but
    none of their functions is called.
    """
    if stage in CLIMBED:  # a rung's block names all families, and a stage makes one
        imports = without_blocks(imports)
    reached = set(ENTRY[stage])
    for entry in ENTRY[stage]:
        reached |= imports.find_upstream_modules(entry)
    reached -= EXEMPT.keys() | UNUSED.get(stage, set())
    files = {file_of(module) for module in reached - OF_METHOD}
    if reached & OF_METHOD and stage != "comparison":  # which has all, and trains none
        files.add("components/adapters/${item.method}.py")
    files |= {f"components/report/{name}" for name in PAGES.get(stage, ())}
    return sorted([*files, *(f"components/versions/{name}" for name in STAGES[stage].libraries)])


@cache
def without_blocks(imports: grimp.ImportGraph) -> grimp.ImportGraph:
    pruned = deepcopy(imports)
    pruned.remove_module("components.ladder.block")
    return pruned


def file_of(module: str) -> str:
    path = ROOT / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return file.relative_to(ROOT).as_posix()


def rewritten(text: str, imports: grimp.ImportGraph) -> str:
    """The graph `text` with the code of each stage as it is imported."""
    lines, stage, within = [], "", False
    for line in text.splitlines():
        if line.startswith("  ") and line[2:3].isalpha() and line.endswith(":"):
            stage = line.strip(" :")
        if within and not line.startswith("        - "):
            lines += [f"{CODE}{file}" for file in code_of(stage, imports)]
            within = False
        if line.strip() == "deps:":
            within = True
        if not (within and line.startswith(CODE)):
            lines.append(line)
    return "\n".join(lines) + "\n"


def main() -> None:
    imports = grimp.build_graph("components", "flows", cache_dir=None)
    for path in (GRAPH, MORE):
        path.write_text(rewritten(path.read_text(encoding="utf-8"), imports), encoding="utf-8")
    for catalogue in ROOT.glob("recipes/*/pipelines.yaml"):
        renew(catalogue.parent, load(catalogue.parent, check_files=False), print)


if __name__ == "__main__":
    main()
