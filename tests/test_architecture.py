"""The house rules, held against the code: layers, cycles, declared dependencies, pins."""

import ast
import subprocess
import sys
from pathlib import Path

import grimp
import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from components.catalogue import Catalogue
from flows.stages import STAGES
from flows.versions import pinned

ROOT = Path(__file__).parents[1]
# what each stage calls: its component's module
ENTRY = {
    "dataset": ["components.ingest"],
    "task": ["components.prompts"],
    "controls": ["components.evaluation.controls"],
    "corpus": ["components.corpus"],
    "tokenizer": ["components.tokenizer"],
    "tokens": ["components.tokens"],
    "base": ["components.training.pretrain", "components.training.worker"],
    "language_model": ["components.evaluation.language_model"],
    "adapter": ["components.adapters"],
    "evaluation": ["components.evaluation"],
    "random": ["components.adapters", "components.evaluation"],
    "contamination": ["components.evaluation.contamination"],
    "report": ["components.report.page"],
}
# imported, yet no dependency of any stage, each for its reason
EXEMPT = {
    "components": "an empty package",
    "components.block": "the base of all blocks: it forbids unknown keys and shapes no result",
    "components.reporter": "a protocol without behaviour",
    "components.models": "an empty package",
    "components.training": "an empty package",
    "components.report": "an empty package",
}
# reached through a module of which the stage uses another part: tokens.py both encodes and reads,
# and importing a module of a package imports the package
UNUSED = {
    "base": {"components.tokenizer"},
    "language_model": {"components.documents", "components.evaluation.metrics"},
    "controls": {"components.evaluation"},
    "report": {"components.evaluation"},
}


@pytest.fixture(scope="module")
def imports():
    return grimp.build_graph("components", "flows", cache_dir=None)


def test_components_know_nothing_of_flows(imports):
    for module in imports.modules:
        if module.startswith("components"):
            used = imports.find_modules_directly_imported_by(module)
            assert not [name for name in used if name.startswith("flows")], module


def test_components_know_nothing_of_prefect_and_dvc():
    for path in (ROOT / "components").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & {"prefect", "dvc"}, path


def test_no_import_cycles(imports):
    for module in imports.modules:
        for used in imports.find_modules_directly_imported_by(module):
            assert not imports.chain_exists(importer=used, imported=module), (module, used)


def test_the_catalogue_imports_no_heavy_library():
    """`kindling --help` and every light stage would pay seconds for it."""
    code = (
        "import sys, components.catalogue; "
        "print([n for n in ('torch', 'transformers', 'peft', 'datasets', 'sklearn') "
        "if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def declared(stage: str) -> set[str]:
    document = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    deps = document["stages"][stage]["do"]["deps"]
    files = set()
    for dep in deps:
        if not dep.startswith("${root}/"):
            continue
        path = ROOT / dep.removeprefix("${root}/")
        assert path.is_file(), f"{stage}: {dep} is no file; a folder would hold __pycache__ as well"
        files.add(path.relative_to(ROOT).as_posix())
    return files


def module_file(module: str) -> str:
    path = ROOT / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return file.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("stage", sorted(ENTRY))
def test_dvc_depends_on_what_a_stage_imports(imports, stage):
    """A helper that is imported but not declared would leave stale results up to date."""
    reached = set(ENTRY[stage])
    for entry in ENTRY[stage]:
        reached |= imports.find_upstream_modules(entry)
    reached -= EXEMPT.keys() | UNUSED.get(stage, set())
    missing = {module_file(module) for module in reached} - declared(stage)
    assert not missing


def test_every_stage_is_in_the_graph():
    document = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    assert set(document["stages"]) == set(STAGES) == set(ENTRY)
    for name, stage in document["stages"].items():
        prefix = "${root}/components/versions/"
        deps = [dep for dep in stage["do"]["deps"] if dep.startswith(prefix)]
        declared_versions = {dep.removeprefix(prefix) for dep in deps}
        assert declared_versions == set(STAGES[name].libraries), name


def test_versions_are_those_of_the_constraints():
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    )
    versions = pinned()
    assert versions == {name: pins[name] for name in versions}


def blocks(model: type[BaseModel], seen: set) -> set[type[BaseModel]]:
    if model in seen:
        return seen
    seen.add(model)
    for field in model.model_fields.values():
        waiting = [field.annotation]
        while waiting:
            kind = waiting.pop()
            waiting += getattr(kind, "__args__", ())
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                blocks(kind, seen)
    return seen


def test_every_catalogue_key_has_a_reader():
    """A key that nothing reads is a promise that nobody keeps."""
    source = "\n".join(
        path.read_text(encoding="utf-8")
        for folder in ("components", "flows")
        for path in (ROOT / folder).rglob("*.py")
    )
    read = {node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}
    read |= {"shots", "root", "deployments"}  # read by getattr, by DVC and by Prefect
    read |= {"content_free"}  # read out of adapter.json
    for block in blocks(Catalogue, set()):
        assert set(block.model_fields) <= read, block.__name__
