"""The house rules, held against the code: layers, cycles, declared dependencies, pins."""

import ast
import subprocess
import sys
from pathlib import Path

import grimp
import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from components.adapters import METHODS
from components.catalogue import Catalogue
from flows.expansion import GRAPH, MORE
from flows.versions import pinned
from tests.declare import OF_METHOD, rewritten

ROOT = Path(__file__).parents[1]


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


@pytest.mark.parametrize("graph", [GRAPH, MORE], ids=lambda path: path.name)
def test_dvc_depends_on_what_a_stage_imports(imports, graph):
    """A helper that is imported but not declared would leave stale results up to date."""
    text = graph.read_text(encoding="utf-8")
    assert rewritten(text, imports) == text, "run 'python -m tests.declare'"
    for stage in YAML(typ="safe").load(text)["stages"].values():
        deps = stage.get("do", stage)["deps"]
        for dep in [dep for dep in deps if dep.startswith("${root}/")]:
            for method in METHODS:
                path = ROOT / dep.removeprefix("${root}/").replace("${item.method}", method)
                assert path.is_file(), f"{dep} is no file; a folder would hold __pycache__ as well"


def test_a_methods_file_calls_no_other_methods(imports):
    """A stage depends on the file of its own method alone."""
    for module in OF_METHOD:
        assert not imports.find_upstream_modules(module) & OF_METHOD, module


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
