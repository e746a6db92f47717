"""Kept machine code is used while all sources of kernels are as they were, and no longer."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from components.inference import compiling

FACTOR = "import numba\nFACTOR = {factor}\n"
KERNEL = """
import ctypes
from numba import carray
from components.inference.compiling import kernel, routine
from components.inference.factor import FACTOR

@routine
def larger(number):
    return number * FACTOR

def body(words):
    held = carray(words, (1,))
    held[0] = larger(held[0])

held = ctypes.c_long(21)
kernel(body).ctypes(ctypes.byref(held))
print(held.value, larger(2))
"""


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "components" / "inference"
    folder.mkdir(parents=True)
    shutil.copy(compiling.__file__, folder)
    (folder / "some_kernel.py").write_text(KERNEL)
    return folder


def printed(folder: Path, **variables: str) -> str:
    command = [sys.executable, "-m", "components.inference.some_kernel"]
    told = {"PATH": os.environ["PATH"], **variables}
    top = folder.parents[1]
    done = subprocess.run(command, env=told, cwd=top, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def kept(folder: Path) -> dict[Path, int]:
    """When each piece of machine code was written."""
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*.nbc")}


@pytest.mark.parametrize("asked", [True, False])
def test_a_change_in_another_file_compiles_kernels_anew(package, tmp_path, asked):
    variables = {"NUMBA_CACHE_DIR": str(tmp_path / "asked")} if asked else {}
    where = tmp_path / "asked" if asked else package
    (package / "factor.py").write_text(FACTOR.format(factor=2))
    assert printed(package, **variables) == "42 4\n"
    first = kept(where)
    assert len(first) == 2
    assert printed(package, **variables) == "42 4\n"
    assert kept(where) == first  # used again
    (package / "factor.py").write_text(FACTOR.format(factor=3))
    assert printed(package, **variables) == "63 6\n"
    second = kept(where)
    assert set(second) == set(first)  # in the old one's place: what is of no use is not left behind
    assert all(second[file] > first[file] for file in first)


def test_kernels_are_made_of_the_files_that_the_stamp_is_of():
    folder = Path(compiling.__file__).parent
    names = {file.stem for file in compiling.sources()}
    assert {"kernels", "registers", "tiles", "threads", "attention_kernel"} <= names
    for name in names:
        tree = ast.parse((folder / f"{name}.py").read_text(encoding="utf-8"))
        decorated = any(
            isinstance(n, ast.Name) and n.id in ("kernel", "routine") for n in ast.walk(tree)
        )
        for node in ast.walk(tree) if decorated else ():
            if isinstance(node, ast.ImportFrom) and node.module.startswith("components."):
                assert node.module.rsplit(".", 1)[1] in names, f"{name} imports {node.module}"
