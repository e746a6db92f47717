"""`pipelines.yaml`, read as a whole: the one file that says what exists.

Its models stand in schema.py. Every mistake becomes a line, a value and a suggestion before any
work: what a block gets wrong (mistakes.py), and what blocks get wrong together (crosschecks.py).
"""

import difflib
import io
import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from components.crosschecks import crosscheck
from components.mistakes import CatalogueError, describe, sentence, suggestion
from components.schema import Catalogue

FILE = "pipelines.yaml"


def parse(text: str, file: str = FILE) -> Catalogue:
    """Validate a catalogue's text.

    Raises:
        CatalogueError: with one line for each mistake: file and line, key path, value, remedy.
    """
    try:
        document, plain = YAML().load(text), YAML(typ="safe").load(text)
    except MarkedYAMLError as error:
        raise CatalogueError(_not_yaml(file, error)) from None
    if not isinstance(document, dict):
        raise CatalogueError(f"{file}: expected blocks such as 'datasets:', got {document!r}")
    try:
        catalogue = Catalogue.model_validate(plain)
    except ValidationError as error:
        lines = [describe(dict(e), document, file, Catalogue) for e in error.errors()]
        raise CatalogueError("\n".join(lines)) from None
    told = [sentence(file, document, m.place, m.said) for m in crosscheck(catalogue)]
    if mistakes := dict.fromkeys(told):  # entries of a comparison share some
        raise CatalogueError("\n".join(mistakes))
    return catalogue


def _not_yaml(file: str, error: MarkedYAMLError) -> str:
    """Where, and what is wrong there: without the parser's excerpts and links."""
    mark = error.problem_mark or error.context_mark
    where = f"{file}:{mark.line + 1}" if mark else file
    said = ", ".join(part for part in (error.context, error.problem) if part)
    said = said.partition(" with value ")[0]  # of a duplicate key: whole blocks follow
    return f"{where}: not valid YAML: {said}"


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
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        said = f"{path}: not UTF-8 text ({error}); save the file in UTF-8"
        raise CatalogueError(said) from None
    catalogue = parse(text)
    if check_files:
        _require_files(workspace, catalogue)
    return catalogue


def pointer_of(workspace: Path, path: str) -> Path | None:
    """The `.dvc` file that versions `path`, beside it or beside a folder above it."""
    target = Path(path)
    for candidate in [target, *target.parents]:
        pointer = workspace / f"{candidate}.dvc"
        if candidate.name and pointer.is_file():
            return pointer
    return None


def _require_files(workspace: Path, catalogue: Catalogue) -> None:
    """Insist on what `catalogue` names: it is there, or a pointer by which it can be brought."""

    def lacks(path: str) -> bool:
        return not (workspace / path).exists() and pointer_of(workspace, path) is None

    for name, dataset in catalogue.datasets.items():
        if lacks(dataset.path):
            raise CatalogueError(
                f"{FILE}: datasets.{name}.path: there is no {dataset.path}; put the data there, "
                f"or its pointer {dataset.path}.dvc and run 'dvc pull {dataset.path}.dvc'"
            )
    for name, rung in catalogue.rungs.items():
        for file, path in rung.files.items():
            if lacks(path):
                raise CatalogueError(f"{FILE}: rungs.{name}.files.{file}: there is no {path}")
    for name, pipeline in catalogue.pipelines.items():
        if pipeline.base and lacks(pipeline.base):
            raise CatalogueError(
                f"{FILE}: pipelines.{name}.base: there is no folder {pipeline.base}; "
                f"{_bring(pipeline.base)}"
            )
    if not (workspace / catalogue.root / "components").is_dir():
        raise CatalogueError(f"{FILE}: root: '{catalogue.root}' has no folder 'components'")


def _bring(base: str) -> str:
    """How to get the model that a pipeline brings along."""
    before, made, after = base.partition("/artifacts/")
    if made:  # by another workspace
        return f"make it: cd {before} && kindling run {after.split('/')[0]}"
    return (
        "put the model there (config.json, *.safetensors, tokenizer.json), or, for one of the "
        f"Hugging Face hub, run 'kindling data import model:OWNER/NAME {base}'"
    )


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
        try:
            given = YAML(typ="safe").load(value)
        except YAMLError:
            said = f"--set {setting}: '{value}' is not valid YAML; put text with signs in quotes"
            raise CatalogueError(said) from None
        quoted = isinstance(given, str) and ":" in given  # the fast parser refuses {a: b:c}
        _assign(document, key, DoubleQuotedScalarString(given) if quoted else given)
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
