"""What `pipelines.yaml` may hold: the blocks' models, assembled.

Each block's model lives in the component that reads it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from components.adapters import AdapterBlock
from components.block import Block
from components.comparison.block import Comparison, Entry
from components.compute import Compute
from components.dataset import Dataset
from components.gate import Gate
from components.ladder.block import GROUPS, Ladder, Rung, Vocabulary, key, keys, read_key, settings
from components.ladder.climb import Climb
from components.models.llama import Model
from components.prompts import Prompt
from components.serving.limits import Serving
from components.tasks import Task
from components.tokenizer import Tokenizer
from components.training.pretrain import Pretrain

MADE = ("corpus", "tokenizer", "model", "pretrain")  # what a base that is trained here needs


class Pipeline(Block):
    """A foundation model: trained from a corpus, or brought along.

    corpus: the name of a data set. tokenizer, model, pretrain: how the base is made from it.
    base: a folder that holds one; a corpus, if named, is then what it is judged on.
    """

    corpus: str | None = None
    tokenizer: Tokenizer | None = None
    model: Model | None = None
    pretrain: Pretrain | None = None
    base: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _made_or_brought(self) -> "Pipeline":
        given = [key for key in MADE if getattr(self, key) is not None]
        if self.base is None and (missing := [key for key in MADE if key not in given]):
            raise ValueError(
                f"{', '.join(missing)} missing: a base is trained from {', '.join(MADE)}, or "
                "brought along with 'base: FOLDER'"
            )
        if self.base is not None and (idle := [key for key in given if key != "corpus"]):
            raise ValueError(
                f"base '{self.base}' is brought along, so {', '.join(idle)} would do nothing; "
                "drop the one or the other"
            )
        return self


class Catalogue(Block):
    """All blocks of one workspace. `deployments` is Prefect's own schema, passed on unread."""

    root: str = Field(examples=["."], description="the folder that holds the code")
    compute: Compute = Field(examples=["{threads: 2, jobs: 1}"])
    datasets: dict[str, Dataset]
    prompts: dict[str, Prompt] = Field(default_factory=dict)
    pipelines: dict[str, Pipeline] = Field(default_factory=dict)
    tasks: dict[str, Task] = Field(default_factory=dict)
    adapters: dict[str, AdapterBlock] = Field(default_factory=dict)
    gates: dict[str, Gate] = Field(default_factory=dict)
    comparisons: dict[str, Comparison] = Field(default_factory=dict)
    seeds: int = Field(default=1, ge=1, description="of each rung's trainings, from 1")
    vocabularies: dict[str, Vocabulary] = Field(default_factory=dict)
    rungs: dict[str, Rung] = Field(default_factory=dict)
    ladders: dict[str, Ladder] = Field(default_factory=dict)
    serving: Serving = Field(default_factory=Serving)
    deployments: list[dict[str, Any]] = Field(default_factory=list)

    @property
    def targets(self) -> list[str]:
        """What can be run: pipelines and ladders."""
        return [*self.pipelines, *self.ladders]

    def adapters_of(self, pipeline: str) -> list[str]:
        """The names of the adapters made on `pipeline`'s base, in the file's order."""
        return [name for name, block in self.adapters.items() if block.pipeline == pipeline]

    def tasks_of(self, pipeline: str) -> list[str]:
        """The tasks that a run of `pipeline` judges by, each once: of adapters and comparisons."""
        adapted = [self.adapters[name].task for name in self.adapters_of(pipeline)]
        compared = [self.comparisons[name].task for name in self.comparisons_of(pipeline)]
        return list(dict.fromkeys([*adapted, *compared]))

    def gate_of(self, adapter: str) -> str | None:
        """The gate that judges `adapter`: the one whose baseline has its pipeline and task."""
        judged = self.adapters[adapter]
        for name, gate in self.gates.items():
            baseline = self.adapters[gate.baseline]
            if (baseline.pipeline, baseline.task) == (judged.pipeline, judged.task):
                return name
        return None

    def comparisons_of(self, pipeline: str) -> list[str]:
        """The comparisons that a run of `pipeline` makes: those that name it, or name it first."""
        return [name for name, block in self.comparisons.items() if block.pipelines[0] == pipeline]

    def entry(self, key: str) -> Entry:
        """What a comparison calls `key`.

        Raises:
            KeyError: no comparison has such an entry.
        """
        return self._entries()[key]

    def final(self, key: str) -> tuple[Entry, int]:
        """Whose final training `key` is, and from which seed.

        Raises:
            KeyError: no comparison has such a training.
        """
        search, _, seed = key.rpartition("-")
        return self.entry(search), int(seed)

    def _entries(self) -> dict[str, Entry]:
        blocks = self.comparisons.items()
        return {entry.key: entry for name, block in blocks for entry in block.entries(name)}

    def datasets_of(self, pipeline: str) -> list[str]:
        """The data sets that a run of `pipeline` reads: corpora, and those of tasks."""
        stages = self.stages_of(pipeline)
        return [stage.partition("@")[2] for stage in stages if stage.startswith("dataset@")]

    def files_of(self, pipeline: str) -> list[str]:
        """The files that a run measures by, where it is of a ladder."""
        rungs = self.ladders[pipeline].rungs if pipeline in self.ladders else []
        return list(dict.fromkeys(p for name in rungs for p in self.rungs[name].files.values()))

    def stages_of(self, pipeline: str) -> list[str]:
        """The DVC stages that `pipeline`, or a ladder of that name, needs, each after those that
        it depends on. Data and tasks stand first: what is wrong in them ends a run in seconds, not
        behind a base.
        """
        if pipeline in self.ladders:
            return self._ladder_stages(pipeline)
        compared = self.comparisons_of(pipeline)
        bases = [pipeline, *(p for name in compared for p in self.comparisons[name].pipelines)]
        adapters, tasks = self.adapters_of(pipeline), self.tasks_of(pipeline)
        corpora = [self.pipelines[name].corpus for name in bases]
        read = [*filter(None, corpora), *(self.tasks[name].dataset for name in tasks)]
        stages = [f"dataset@{name}" for name in dict.fromkeys(read)]
        stages += [f"{kind}@{task}" for task in tasks for kind in ("task", "controls")]
        for base in dict.fromkeys(bases):
            stages += self._base_stages(base)
        if self.pipelines[pipeline].corpus and tasks:
            stages.append(f"contamination@{pipeline}")
        per_adapter = ("adapter", "evaluation", "random")
        stages += [f"{kind}@{name}" for name in adapters for kind in per_adapter]
        if adapters:
            stages.append(f"{'brought_' * bool(self.pipelines[pipeline].base)}report@{pipeline}")
        return [*stages, *(stage for name in compared for stage in self._comparison_stages(name))]

    def _base_stages(self, pipeline: str) -> list[str]:
        block = self.pipelines[pipeline]
        kinds = ["brought"] if block.base else ["tokenizer", "tokens", "base"]
        if block.corpus:
            kinds = ["corpus", *kinds, "language_model"]
        return [f"{kind}@{pipeline}" for kind in kinds]

    def _comparison_stages(self, name: str) -> list[str]:
        stages = [f"search@{entry.key}" for entry in self.comparisons[name].entries(name)]
        finals = [f"final@{key}" for key in self.finals_of(name)]
        return [*stages, *finals, f"comparison@{name}"]

    def finals_of(self, comparison: str) -> list[str]:
        """The final trainings of `comparison`: each entry from each seed."""
        block = self.comparisons[comparison]
        seeds = range(1, block.seeds + 1)
        return [entry.final(seed) for entry in block.entries(comparison) for seed in seeds]

    def vocabularies_of(self, ladder: str) -> list[str]:
        """The vocabularies that `ladder` shows: those of its rungs, and those it names."""
        block = self.ladders[ladder]
        used = [self.rungs[name].vocabulary for name in block.rungs]
        return list(dict.fromkeys([*block.vocabularies, *used]))

    def _ladder_stages(self, ladder: str) -> list[str]:
        rungs = self.ladders[ladder].rungs
        vocabularies = self.vocabularies_of(ladder)
        read = [name for rung in rungs for name in self.rungs[rung].corpora]
        read += [read for name in vocabularies for read in self.vocabularies[name].corpora]
        stages = [f"dataset@{name}" for name in dict.fromkeys(read)]
        stages += [f"vocabulary@{name}" for name in vocabularies]
        for name, seed in keys(rungs, self.seeds):
            group = self.rungs[name].group
            stages += [f"{step}{group}@{key(name, seed)}" for step in ("", "measure_")]
        return [*stages, f"ladder@{ladder}"]

    def climb(
        self,
        ladder: str,
        artifacts: Path,
        seconds: Mapping[str, float],
        speeds: Mapping[str, float],
    ) -> Climb:
        """What the book of `ladder` is written from."""
        block = self.ladders[ladder]
        rungs = {name: self.rungs[name] for name in block.rungs}
        names = self.vocabularies_of(ladder)
        return Climb(ladder, artifacts, rungs, self.seeds, names, block.expects, seconds, speeds)

    def rung(self, stage_name: str) -> tuple[str, int]:
        """The rung and the seed of a stage called `stage_name`.

        Raises:
            KeyError: there is no such rung or seed.
        """
        name, seed = read_key(stage_name)
        if name not in self.rungs or not 1 <= seed <= self.seeds:
            raise KeyError(stage_name)
        return name, seed

    def block(self, stage: str) -> dict[str, Any]:
        """The part of the catalogue that shapes what `stage` makes, as plain JSON values."""
        kind, name = stage.split("@")
        return BLOCKS.get(kind, _of_pipeline)(self, kind, name)


def _of_adapter(catalogue: Catalogue, kind: str, name: str) -> dict[str, Any]:
    return catalogue.adapters[name].model_dump(mode="json", exclude=ASIDE)


def _of_task(catalogue: Catalogue, kind: str, name: str) -> dict[str, Any]:
    task = catalogue.tasks[name]
    prompt = catalogue.prompts[task.prompt].model_dump(mode="json")
    return {"task": task.model_dump(mode="json"), "prompt": prompt}


def _of_dataset(catalogue: Catalogue, kind: str, name: str) -> dict[str, Any]:
    return catalogue.datasets[name].model_dump(mode="json", exclude=ASIDE)


def _of_search(catalogue: Catalogue, kind: str, name: str) -> dict[str, Any]:
    entry = catalogue.entry(name)
    block = catalogue.comparisons[entry.comparison]
    settings = {
        "adapter": entry.adapter.model_dump(mode="json", exclude=ASIDE),
        "examples": entry.examples,
    }
    return {**settings, "budget": block.budget, "trials": block.trials}


def _of_final(catalogue: Catalogue, kind: str, name: str) -> dict[str, Any]:
    entry, seed = catalogue.final(name)
    settings = {
        "adapter": entry.adapter.model_dump(mode="json", exclude=ASIDE),
        "examples": entry.examples,
    }
    return {**settings, "seed": seed}


def _of_rung(catalogue: Catalogue, kind: str, name: str) -> dict[str, Any]:
    rung, seed = catalogue.rung(name)
    return {**settings(catalogue.rungs[rung]), "seed": seed}


def _of_vocabulary(catalogue: Catalogue, kind: str, name: str) -> dict[str, Any]:
    return catalogue.vocabularies[name].model_dump(mode="json", exclude={"corpus", "also"})


def _of_ladder(catalogue: Catalogue, kind: str, name: str) -> dict[str, Any]:
    return {**catalogue.ladders[name].model_dump(mode="json"), "seeds": catalogue.seeds}


def _of_comparison(catalogue: Catalogue, kind: str, name: str) -> dict[str, Any]:
    return catalogue.comparisons[name].model_dump(mode="json")


def _of_pipeline(catalogue: Catalogue, kind: str, name: str) -> dict[str, Any]:
    pipeline = catalogue.pipelines[name].model_dump(mode="json", exclude={"pretrain": ASIDE})
    return {key: pipeline[key] for key in PARTS.get(kind, ())}


ASIDE = {"checkpoint_minutes", "on_change"}  # keys that shape no result
PARTS = {
    "corpus": ("corpus",),
    "tokenizer": ("tokenizer",),
    "base": ("model", "pretrain"),
    "brought": ("base",),
}
BLOCKS = {
    **dict.fromkeys(("adapter", "evaluation", "random"), _of_adapter),
    "task": _of_task,
    "dataset": _of_dataset,
    "controls": lambda *_: {},
    "search": _of_search,
    "final": _of_final,
    "comparison": _of_comparison,
    "vocabulary": _of_vocabulary,
    **{f"{step}{group}": _of_rung for group in GROUPS for step in ("", "measure_")},
    "ladder": _of_ladder,
}
