"""What `pipelines.yaml` may hold: the blocks' models, assembled.

Each block's model lives in the component that reads it.
"""

from typing import Any

from pydantic import Field, model_validator

from components.adapters import AdapterBlock
from components.block import Block
from components.dataset import Dataset
from components.gate import Gate
from components.models.llama import Model
from components.prompts import Prompt, Task
from components.tokenizer import Tokenizer
from components.training.devices import Strategy
from components.training.pretrain import Pretrain


class Pipeline(Block):
    """From a corpus to a foundation model.

    corpus: the name of a data set. tokenizer, model, pretrain: how the base is made from it.
    """

    corpus: str
    tokenizer: Tokenizer
    model: Model
    pretrain: Pretrain


class Compute(Block):
    """What a run may use of the machine. DVC reads threads and jobs, and knows no defaults."""

    threads: int = Field(ge=1, examples=[2], description="of a run, and all of them for the base")
    jobs: int = Field(ge=1, examples=[1], description="stages at once; they share the threads")
    disk_gb: float = Field(default=1.0, ge=0, description="free space to insist on, in GB")
    processes: int = Field(
        default=1, ge=1, description="that pretrain together; they share threads"
    )
    strategy: Strategy = Field(
        default="ddp", description="what they share: batches, or all weights"
    )
    price_per_hour: float | None = Field(default=None, ge=0, description="of this machine")

    @model_validator(mode="after")
    def _a_thread_for_each(self) -> "Compute":
        if self.jobs > self.threads:
            raise ValueError(f"jobs {self.jobs} is more than threads {self.threads}")
        if self.processes > self.threads:
            raise ValueError(f"processes {self.processes} is more than threads {self.threads}")
        return self

    def jobs_of(self, stage: str) -> int:
        """How many jobs `stage` counts for: pretraining has the machine alone."""
        return self.jobs if stage.startswith("base@") else 1

    def threads_of(self, stage: str) -> int:
        """The threads of `stage`, however it is started: their number shapes the last bits."""
        return self.threads if stage.startswith("base@") else self.threads // self.jobs


class Catalogue(Block):
    """All blocks of one workspace. `deployments` is Prefect's own schema, passed on unread."""

    root: str = Field(examples=["."], description="the folder that holds the code")
    compute: Compute = Field(examples=["{threads: 2, jobs: 1}"])
    datasets: dict[str, Dataset]
    prompts: dict[str, Prompt]
    pipelines: dict[str, Pipeline]
    tasks: dict[str, Task]
    adapters: dict[str, AdapterBlock]
    gates: dict[str, Gate] = Field(default_factory=dict)
    deployments: list[dict[str, Any]] = Field(default_factory=list)

    def adapters_of(self, pipeline: str) -> list[str]:
        """The names of the adapters made on `pipeline`'s base, in the file's order."""
        return [name for name, block in self.adapters.items() if block.pipeline == pipeline]

    def tasks_of(self, pipeline: str) -> list[str]:
        """The tasks of `pipeline`'s adapters, each once, in the adapters' order."""
        return list(dict.fromkeys(self.adapters[name].task for name in self.adapters_of(pipeline)))

    def gate_of(self, adapter: str) -> str | None:
        """The gate that judges `adapter`: the one whose baseline has its pipeline and task."""
        judged = self.adapters[adapter]
        for name, gate in self.gates.items():
            baseline = self.adapters[gate.baseline]
            if (baseline.pipeline, baseline.task) == (judged.pipeline, judged.task):
                return name
        return None

    def datasets_of(self, pipeline: str) -> list[str]:
        """The data sets that `pipeline` reads: its corpus, and those of its adapters' tasks."""
        read = [self.tasks[task].dataset for task in self.tasks_of(pipeline)]
        return list(dict.fromkeys([self.pipelines[pipeline].corpus, *read]))

    def stages_of(self, pipeline: str) -> list[str]:
        """The DVC stages that `pipeline` needs, each after those that it depends on."""
        adapters, tasks = self.adapters_of(pipeline), self.tasks_of(pipeline)
        stages = [f"dataset@{name}" for name in self.datasets_of(pipeline)]
        stages += [f"{kind}@{pipeline}" for kind in ("corpus", "tokenizer", "tokens", "base")]
        stages += [f"language_model@{pipeline}"]
        stages += [f"{kind}@{task}" for task in tasks for kind in ("task", "controls")]
        stages += [f"contamination@{pipeline}"]
        per_adapter = ("adapter", "evaluation", "random")
        stages += [f"{kind}@{name}" for name in adapters for kind in per_adapter]
        return [*stages, f"report@{pipeline}"]

    def block(self, stage: str) -> dict[str, Any]:
        """The part of the catalogue that `stage` reads, as plain JSON values."""
        kind, name = stage.split("@")
        if kind in ("adapter", "evaluation", "random"):
            return self.adapters[name].model_dump(mode="json")
        if kind == "task":
            task = self.tasks[name]
            prompt = self.prompts[task.prompt].model_dump(mode="json")
            return {"task": task.model_dump(mode="json"), "prompt": prompt}
        if kind == "dataset":
            return self.datasets[name].model_dump(mode="json")
        if kind == "controls":
            return {}
        parts = {"tokenizer": ["tokenizer"], "base": ["model", "pretrain"], "corpus": ["corpus"]}
        pipeline = self.pipelines[name].model_dump(mode="json")
        return {key: pipeline[key] for key in parts.get(kind, [])}
