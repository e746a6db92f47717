"""What a comparison is: methods, each tuned and then trained anew from several seeds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from components.adapters import METHODS, AdapterBlock
from components.adapters.settings import Trained
from components.block import Block
from components.mistakes import suggestion

ADAPTER: TypeAdapter = TypeAdapter(AdapterBlock)
TUNED = ("learning_rate", "steps", "seed", "examples", "pipeline", "task")  # not a method's to say


@dataclass(frozen=True)
class Entry:
    """One method on one base with one amount of data: what is searched, and then trained anew.

    name: as the comparison calls the method. adapter: its settings, before anything is tuned.
    examples: training rows; None for all.
    """

    comparison: str
    key: str
    pipeline: str
    task: str
    name: str
    adapter: Any
    examples: int | None

    def final(self, seed: int) -> str:
        return f"{self.key}-{seed}"

    def block(self, settings: Mapping[str, Any], seed: int, steps: int) -> Any:
        """The adapter with tuned `settings`, to be trained for `steps` (0: nothing is trained)."""
        fixed = {"seed": seed, "examples": self.examples} | ({"steps": steps} if steps else {})
        return self.adapter.model_copy(update={**settings, **fixed})


class Comparison(Block):
    """Methods compared on a task of one base, or of several.

    pipeline: whose base; a list of them compares over sizes. methods: their names, or settings by a
    name of your own (`method` inside where the name is none). budget: tokens that a trial reads:
    prompts with their shots and answers, cut to the context, in each pass of a step (an ensemble's
    members read the same rows, dpo's reference too). trials: of each method. seeds: of the final
    trainings, from 1. examples: training rows, drawn by the training's seed; a list compares over
    amounts of data, `all` among them for every row.
    """

    pipeline: str | list[str]
    task: str
    methods: dict[str, dict[str, Any]]
    budget: int = Field(default=100_000, ge=1_000)
    trials: int = Field(default=8, ge=1)
    seeds: int = Field(default=3, ge=1)
    examples: list[int | str] = Field(default_factory=lambda: ["all"], min_length=1)

    @field_validator("methods", mode="before")
    @classmethod
    def _named(cls, methods: Any) -> Any:
        if not isinstance(methods, list):
            return methods
        _require_once("methods", methods)
        return {name: {} for name in methods}

    @field_validator("budget", "trials", "seeds", mode="before")
    @classmethod
    def _is_number(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError(f"{value} is no number")
        return value

    @field_validator("examples", mode="before")
    @classmethod
    def _counts(cls, examples: Any) -> Any:
        if not isinstance(examples, list):
            return examples
        for count in examples:
            if count != "all" and not (type(count) is int and count > 0):  # True is an int too
                raise ValueError(f"examples are numbers of training rows, or 'all'; got {count!r}")
        _require_once("examples", examples)
        return examples

    @model_validator(mode="after")
    def _methods_are_adapters(self) -> "Comparison":
        if len(self.methods) < 2:
            raise ValueError("a comparison needs two methods at least")
        if not self.pipelines:
            raise ValueError("a comparison needs a pipeline")
        _require_once("pipeline", self.pipelines)
        for name in self.methods:
            self.adapter(name, self.pipelines[0])
        return self

    @property
    def pipelines(self) -> list[str]:
        return [self.pipeline] if isinstance(self.pipeline, str) else self.pipeline

    def adapter(self, name: str, pipeline: str) -> Any:
        """The settings of method `name` as an adapter's block, not yet tuned.

        Raises:
            ValueError: the method does not exist, or does not have such settings.
        """
        settings = self.methods[name] or {}
        if said := [key for key in TUNED if key in settings]:
            raise ValueError(
                f"methods.{name}.{said[0]}: a comparison decides on {', '.join(TUNED)} itself"
            )
        block = {"method": name, **settings, "pipeline": pipeline, "task": self.task}
        if (method := block["method"]) not in METHODS:
            said = f"there is no method '{method}'{suggestion(method, METHODS)}"
            raise ValueError(f"methods.{name}: {said}")
        try:
            return ADAPTER.validate_python(block)
        except ValidationError as error:
            raise ValueError(f"methods.{name}{_told(error, METHODS[method].block)}") from None

    def entries(self, comparison: str) -> Iterator[Entry]:
        """All that is tuned and trained, in the catalogue's order; what is no axis is in no key."""
        for pipeline in self.pipelines:
            for count in self.examples:
                for name in self.methods:
                    axes = [pipeline] if len(self.pipelines) > 1 else []
                    axes += [str(count)] if len(self.examples) > 1 else []
                    key = "-".join([comparison, *axes, name])
                    rows = None if count == "all" else int(count)
                    adapter = self.adapter(name, pipeline)
                    yield Entry(comparison, key, pipeline, self.task, name, adapter, rows)


def _require_once(key: str, values: Sequence[Any]) -> None:
    """Raise ValueError where a value stands twice: its entries would be one."""
    if twice := [value for place, value in enumerate(values) if value in values[:place]]:
        raise ValueError(f"{key} has {twice[0]!r} twice")


def is_trained(adapter: Any) -> bool:
    return isinstance(adapter, Trained)


def _told(error: ValidationError, block: type[Block]) -> str:
    """The first mistake in a method's settings: its key, and what is wrong."""
    first = error.errors()[0]
    place = "".join(f".{part}" for part in first["loc"][1:])
    if first["type"] == "extra_forbidden":
        key = str(first["loc"][-1])
        known = [name for name in block.model_fields if name not in (*TUNED, "method")]
        return f"{place}: unknown key '{key}'{suggestion(key, known)}"
    return f"{place}: {first['msg']} (got {first['input']!r})"
