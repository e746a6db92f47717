"""`pipelines.yaml`, read as a whole: the one file that says what exists.

Each block's model lives in the component that reads it; this module assembles them, follows the
names between them, and turns every mistake into a line, a value and a suggestion before any work.
"""

import difflib
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from components.adapters import AdapterBlock
from components.block import Block
from components.dataset import Dataset
from components.gate import Gate
from components.models.llama import Model
from components.prompts import Prompt, Task
from components.tokenizer import Tokenizer
from components.training.pretrain import Pretrain

FILE = "pipelines.yaml"
RESERVED = "base"  # the name of every pipeline's foundation model among its adapters


class CatalogueError(ValueError):
    """The catalogue, or a change to it, is wrong; the message names place, value and remedy."""


class Pipeline(Block):
    """From a corpus to a foundation model.

    corpus: the name of a data set. tokenizer, model, pretrain: how the base is made from it.
    """

    corpus: str
    tokenizer: Tokenizer
    model: Model
    pretrain: Pretrain


class Compute(Block):
    """What a run may use of the machine."""

    threads: int = Field(default=2, ge=1, description="of a run, and all of them for the base")
    jobs: int = Field(default=1, ge=1, description="stages at once; they share the threads")
    disk_gb: float = Field(default=1.0, ge=0, description="free space to insist on, in GB")

    @model_validator(mode="after")
    def _a_thread_for_each(self) -> "Compute":
        if self.jobs > self.threads:
            raise ValueError(f"jobs {self.jobs} is more than threads {self.threads}")
        return self

    def jobs_of(self, stage: str) -> int:
        """How many jobs `stage` counts for: pretraining has the machine alone."""
        return self.jobs if stage.startswith("base@") else 1

    def threads_of(self, stage: str) -> int:
        """The threads of `stage`, however it is started: their number shapes the last bits."""
        return self.threads if stage.startswith("base@") else self.threads // self.jobs


class Catalogue(Block):
    """All blocks of one workspace. `deployments` is Prefect's own schema, passed on unread."""

    root: str
    compute: Compute = Compute()
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

    def gate_of(self, adapter: str) -> str | None:
        """The gate that judges `adapter`: the one whose baseline has its pipeline and task."""
        judged = self.adapters[adapter]
        for name, gate in self.gates.items():
            baseline = self.adapters[gate.baseline]
            if (baseline.pipeline, baseline.task) == (judged.pipeline, judged.task):
                return name
        return None

    def stages_of(self, pipeline: str) -> list[str]:
        """The DVC stages that `pipeline` needs, each after those that it depends on."""
        adapters = self.adapters_of(pipeline)
        tasks = list(dict.fromkeys(self.adapters[name].task for name in adapters))
        datasets = [self.pipelines[pipeline].corpus, *(self.tasks[t].dataset for t in tasks)]
        stages = [f"dataset@{name}" for name in dict.fromkeys(datasets)]
        stages += [f"{kind}@{pipeline}" for kind in ("corpus", "tokenizer", "tokens", "base")]
        stages += [f"language_model@{pipeline}"]
        stages += [f"{kind}@{task}" for task in tasks for kind in ("task", "controls")]
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


@dataclass(frozen=True)
class Reference:
    """A name that one block uses for another."""

    place: str
    value: str
    block: str


def _references(catalogue: Catalogue) -> Iterable[Reference]:
    for name, pipeline in catalogue.pipelines.items():
        yield Reference(f"pipelines.{name}.corpus", pipeline.corpus, "datasets")
    for name, task in catalogue.tasks.items():
        yield Reference(f"tasks.{name}.dataset", task.dataset, "datasets")
        yield Reference(f"tasks.{name}.prompt", task.prompt, "prompts")
    for name, adapter in catalogue.adapters.items():
        yield Reference(f"adapters.{name}.pipeline", adapter.pipeline, "pipelines")
        yield Reference(f"adapters.{name}.task", adapter.task, "tasks")
    for name, gate in catalogue.gates.items():
        yield Reference(f"gates.{name}.baseline", gate.baseline, "adapters")


def suggestion(value: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'? known: a, b` for an error about an unknown name."""
    known = sorted(known)
    close = difflib.get_close_matches(str(value), known, n=1)
    guess = f"; did you mean '{close[0]}'?" if close else ";"
    return f"{guess} known: {', '.join(known) or '(none)'}"


def _line(document: Any, location: Iterable[Any]) -> int | None:
    """The line (from 1) of the deepest part of `location` that stands in the file."""
    line = None
    for part in location:
        if not isinstance(document, (dict, list)):
            break
        try:
            line = document.lc.key(part)[0] + 1 if isinstance(document, dict) else line
            document = document[part]
        except (KeyError, IndexError, TypeError):
            break
    return line


def _known_keys(location: list[Any], document: Any) -> list[str]:
    """The keys that the block at `location` may have."""
    model: Any = Catalogue
    for part in location:
        document = document[part] if isinstance(document, dict) else None
        field = model.model_fields.get(str(part))
        if field is None:
            continue  # the name of a block
        kinds = _models(field.annotation)
        if not kinds:
            return []
        model = kinds[0]
        if len(kinds) > 1:  # adapters: the method says which
            method = document.get(location[-1], {}).get("method")
            model = next((k for k in kinds if method in _methods(k)), model)
    return list(model.model_fields)


def _models(annotation: Any) -> list[type[Block]]:
    """The blocks that a field's annotation names."""
    if isinstance(annotation, type) and issubclass(annotation, Block):
        return [annotation]
    inner = getattr(annotation, "__args__", ())
    return [model for argument in inner for model in _models(argument)]


def _methods(model: type[Block]) -> tuple[str, ...]:
    return getattr(model.model_fields["method"].annotation, "__args__", ())


def _describe(error: dict[str, Any], document: Any, file: str) -> str:
    location = [part for part in error["loc"] if not str(part).startswith("function-")]
    kept, inner = [], document
    for part in location:  # pydantic adds the tag of a union, which the file does not have
        if isinstance(inner, dict) and part not in inner and part != location[-1]:
            continue
        kept.append(part)
        inner = inner[part] if isinstance(inner, dict) and part in inner else inner
    line = _line(document, kept)
    where = f"{file}:{line}" if line else file
    place = ".".join(str(part) for part in kept) or "the file"
    if error["type"] == "extra_forbidden":
        known = _known_keys(kept[:-1], document)
        more = suggestion(str(kept[-1]), known) if known else ""
        return f"{where}: {place}: unknown key '{kept[-1]}'{more}"
    if error["type"] == "missing":
        return f"{where}: {place}: this key is missing"
    return f"{where}: {place}: {error['msg']} (got {error['input']!r})"


def parse(text: str, file: str = FILE) -> Catalogue:
    """Validate a catalogue's text.

    Raises:
        CatalogueError: with one line for each mistake: file and line, key path, value, remedy.
    """
    try:
        document = YAML().load(text)
    except MarkedYAMLError as error:
        raise CatalogueError(f"{file}: not valid YAML: {error}") from None
    if not isinstance(document, dict):
        raise CatalogueError(f"{file}: expected blocks such as 'datasets:', got {document!r}")
    try:
        catalogue = Catalogue.model_validate(YAML(typ="safe").load(text))
    except ValidationError as error:
        lines = [_describe(dict(e), document, file) for e in error.errors()]
        raise CatalogueError("\n".join(lines)) from None
    mistakes = list(_dangling(catalogue, document, file))
    if mistakes:
        raise CatalogueError("\n".join(mistakes))
    return catalogue


def _dangling(catalogue: Catalogue, document: Any, file: str) -> Iterable[str]:
    for reference in _references(catalogue):
        known = getattr(catalogue, reference.block)
        if reference.value not in known:
            where = f"{file}:{_line(document, reference.place.split('.'))}"
            yield (
                f"{where}: {reference.place}: no {reference.block} block is called "
                f"'{reference.value}'{suggestion(reference.value, known)}"
            )
    if RESERVED in catalogue.adapters:
        line = _line(document, ["adapters", RESERVED])
        yield f"{file}:{line}: adapters.{RESERVED}: this name is the foundation model's; rename it"
    for block in ("datasets", "prompts", "pipelines", "tasks", "adapters", "gates"):
        for name in getattr(catalogue, block):
            if not name.replace("_", "").replace("-", "").isalnum():
                line = _line(document, [block, name])
                yield f"{file}:{line}: {block}.{name}: names are letters, digits, '_' and '-'"
    seen: dict[tuple[str, str], str] = {}
    for name, gate in catalogue.gates.items():
        if gate.baseline not in catalogue.adapters:
            continue
        baseline = catalogue.adapters[gate.baseline]
        other = seen.setdefault((baseline.pipeline, baseline.task), name)
        if other != name:
            yield f"{file}: gates.{name}: gate '{other}' already judges {baseline.task!r}"


def load(workspace: Path, check_files: bool = True) -> Catalogue:
    """Read and validate the catalogue of `workspace`, and that the files it names exist.

    Raises:
        CatalogueError: no catalogue there, or a mistake in it.
    """
    path = workspace / FILE
    if not path.is_file():
        raise CatalogueError(
            f"{workspace} is no kindling workspace: it has no {FILE}; "
            "go to one, name one with -C DIR, or make one with 'kindling init DIR'"
        )
    catalogue = parse(path.read_text(encoding="utf-8"))
    if not check_files:
        return catalogue
    for name, dataset in catalogue.datasets.items():
        target = workspace / dataset.path
        if not target.exists() and not Path(f"{target}.dvc").exists():
            raise CatalogueError(
                f"{FILE}: datasets.{name}.path: there is no {dataset.path}; put the data there, "
                f"or its pointer {dataset.path}.dvc and run 'dvc pull {dataset.path}.dvc'"
            )
    if not (workspace / catalogue.root / "components").is_dir():
        raise CatalogueError(f"{FILE}: root: '{catalogue.root}' has no folder 'components'")
    return catalogue


def edit(workspace: Path, settings: list[str]) -> str:
    """Apply `KEY=VALUE` settings to the catalogue in place, comments kept; return the difference.

    Raises:
        CatalogueError: a setting is malformed, or would make the catalogue wrong; nothing is
            written then.
    """
    path = workspace / FILE
    before = path.read_text(encoding="utf-8")
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    document = yaml.load(before)
    for setting in settings:
        key, sign, value = setting.partition("=")
        if not sign or not key:
            raise CatalogueError(f"--set {setting}: expected KEY=VALUE, as in adapters.lora.rank=8")
        _assign(document, key, YAML(typ="safe").load(value))
    buffer = io.StringIO()
    yaml.dump(document, buffer)
    after = buffer.getvalue()
    parse(after)
    if YAML(typ="safe").load(after) == YAML(typ="safe").load(before):
        return ""
    temporary = path.with_name(f".{FILE}.{os.getpid()}")
    temporary.write_text(after, encoding="utf-8")
    os.replace(temporary, path)
    return "".join(
        difflib.unified_diff(before.splitlines(True), after.splitlines(True), FILE, FILE, n=0)
    )


def _assign(document: Any, key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for depth, part in enumerate(parents):
        if not isinstance(document, dict) or part not in document:
            known = document if isinstance(document, dict) else []
            place = ".".join(parents[: depth + 1])
            raise CatalogueError(f"--set {key}: no key '{place}'{suggestion(part, known)}")
        document = document[part]
    if not isinstance(document, dict):
        raise CatalogueError(f"--set {key}: '{'.'.join(parents)}' holds no keys")
    document[last] = value
