"""A data set's block in the catalogue: where the data is and how to read it."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from components.block import Block

WITHOUT_COLUMNS = ("text", "markdown")
SHOWN = 60  # characters of a bad value in an error
RESERVED = ("text", "label", "source", "target", "steps", "rejected")

Split = Literal["train", "validation", "test"]


class Dataset(Block):
    """Where data is and how to read it.

    splits: a file below `path` for each split; a split without one is taken from `train` by content
    hash. text, label: names of columns; `text` may differ by split: {train: a, test: b}. labels:
    what raw values mean. source, target: the columns of pairs; of `parallel` lines the suffixes of
    a split's two files, whose stem `splits` names: of {train: train} train.en and train.de. steps:
    their column of worked steps, a step a line; where it is the target's own column, that holds the
    steps, `####` and the answer, as GSM8K's does. rejected: their column of answers that the target
    is preferred to, for `dpo`. extra: columns of pairs that a prompt may ask for too; they may be
    empty.
    columns: the names, in order, of the columns of a split's file that has no header. kinds, size,
    seed: of the embedded `world`.
    group: what falls into one split as a whole, see `by_file`. max_bad_rows: so many may be
    skipped. on_change: what a run does when the data differs from its DVC pointer.
    """

    path: str
    format: Literal[
        "text", "markdown", "jsonl", "json", "tsv", "csv", "parquet", "parallel", "world"
    ]
    splits: dict[Split, str] = Field(default_factory=dict)
    columns: dict[Split, list[str]] = Field(default_factory=dict)
    text: str | dict[Split, str] = "text"
    label: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    source: str | None = None
    target: str | None = None
    steps: str | None = None
    rejected: str | None = None
    extra: list[str] = Field(default_factory=list)
    kinds: list[str] | None = Field(default=None, min_length=1)
    size: int | None = Field(default=None, ge=1)
    seed: int = 0
    group: Literal["file", "document"] | None = None
    max_bad_rows: int = Field(default=0, ge=0)
    on_change: Literal["refuse", "version"] = "refuse"

    @field_validator("labels", mode="before")
    @classmethod
    def _raw_values_are_text(cls, labels: Any) -> Any:
        """YAML reads `0: negative` with a number as key; files hold text."""
        if not isinstance(labels, dict):
            return labels
        return {str(raw): name for raw, name in labels.items()}

    @model_validator(mode="after")
    def _belongs_to_format(self) -> "Dataset":
        stated = self.model_fields_set
        if (self.format == "world") != (self.size is not None):
            raise ValueError(f"size: {self.size}: size belongs to format: world, which needs it")
        for key in ("kinds", "seed"):
            if key in stated and self.format != "world":
                raise ValueError(f"{key} belongs to format: world, not to {self.format}")
        for key in ("splits", "group"):
            if getattr(self, key) and self.format == "world":
                raise ValueError(f"{key}: the world is no file and knows its own splits; drop it")
        if self.columns and self.format not in ("tsv", "csv"):
            raise ValueError(f"columns belongs to tsv and csv, not to {self.format}")
        if self.format == "parallel" and not (self.splits and self.source):
            raise ValueError(
                f"splits {self.splits}, source {self.source!r}: parallel lines need both: stems of "
                "files, as {train: train}, and their suffixes, as source: en and target: de"
            )
        for key in ("steps", "rejected", "extra"):
            if self.format == "parallel" and getattr(self, key):
                raise ValueError(f"{key}: parallel lines are a source and a target, and no more")
        for key in ("text", "label", "source"):
            if key in stated and getattr(self, key) and self.format in WITHOUT_COLUMNS:
                raise ValueError(f"{key} names a column, and {self.format} has none; drop the key")
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> "Dataset":
        if bool(self.label) != bool(self.labels):
            raise ValueError(
                f"label {self.label!r} with labels {self.labels}: label: COLUMN and "
                "labels: {RAW: NAME} belong together"
            )
        if self.labels and len(set(self.labels.values())) < 2:
            raise ValueError(f"labels {self.labels}: two names or more, or nothing is told apart")
        if bool(self.source) != bool(self.target):
            raise ValueError(f"source {self.source!r}, target {self.target!r}: a pair needs both")
        if self.source and (self.label or "text" in self.model_fields_set):
            raise ValueError(f"source {self.source!r}: pairs have no text and no label")
        for key in ("steps", "rejected", "extra"):
            if getattr(self, key) and not self.source:
                raise ValueError(f"{key} belongs to pairs, which source and target name")
        if self.rejected and self.rejected in (self.source, self.target):
            raise ValueError(f"rejected: '{self.rejected}' is the pair's source or target already")
        if self.rejected and self.steps == self.target:
            raise ValueError(
                f"rejected '{self.rejected}': it stands in place of '{self.target}', which holds "
                "worked steps too; give these a column of their own"
            )
        if taken := [name for name in self.extra if name in RESERVED]:
            raise ValueError(f"extra: '{taken[0]}' is the name of a pair's own part; rename it")
        if self.splits and self.group == "file":
            raise ValueError("group: file: splits name one file each; drop one of the two keys")
        if self.splits and "train" not in self.splits:
            raise ValueError(f"splits has no train, only {', '.join(self.splits)}")
        return self

    @model_validator(mode="after")
    def _names_columns_of_each_file(self) -> "Dataset":
        if isinstance(self.text, dict) and set(self.text) != set(self.files):
            raise ValueError(
                f"text names a column for {', '.join(self.text)}; "
                f"there are files for {', '.join(self.files)}"
            )
        for split, names in self.columns.items():
            if split not in self.files:
                raise ValueError(f"columns of {split}, a split without a file of its own")
            missing = [name for name in self.wanted(split) if name not in names]
            if missing or len(set(names)) != len(names):
                raise ValueError(
                    f"columns of {split} are {names}: each name once, "
                    f"{' and '.join(self.wanted(split))} among them"
                )
        return self

    @property
    def files(self) -> tuple[str, ...]:
        """The splits that have a file of their own."""
        return tuple(self.splits) or ("train",)

    def wanted(self, split: str) -> tuple[str, ...]:
        """The columns that are read in the file of `split`."""
        if self.source and self.target:
            named = (self.source, self.target, self.steps, self.rejected, *self.extra)
            return tuple(dict.fromkeys(name for name in named if name))
        text = self.text if isinstance(self.text, str) else self.text[split]
        return (text, self.label) if self.label else (text,)

    @property
    def label_names(self) -> list[str]:
        """What its labels are called, each once, in order."""
        return list(dict.fromkeys(self.labels.values()))

    @property
    def variables(self) -> tuple[str, ...]:
        """The columns of a row as a prompt sees it, whatever its file calls them."""
        if not self.source:
            return ("text",)
        return ("source", "target", *(["steps"] if self.steps else []), *self.extra)

    def by_file(self, path: Path) -> bool:
        """Whether rows from one file below `path` share a split.

        By default so in a folder of text or Markdown: parts of one book in two splits would leak.
        It must not depend on how many files there are, or one more would move all rows.
        """
        if self.group:
            return self.group == "file"
        return self.format in WITHOUT_COLUMNS and not self.splits and path.is_dir()
