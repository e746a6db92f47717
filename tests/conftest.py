"""A tiny workspace that has every stage and takes seconds to run."""

import json
import math
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import pytest
import torch
from ruamel.yaml import YAML
from typer.testing import CliRunner

from components.catalogue import load
from flows import expansion, graph, leash, settings

if not torch.cuda.is_available():  # read when kernels are defined: before any test is imported
    os.environ["TRITON_INTERPRET"] = "1"
ROOT = Path(__file__).parents[1]
MIRROR = ROOT.parent / "shared"
SST2 = {  # as a data set's block
    "path": "data/sst2",
    "format": "tsv",
    "splits": {"train": "train.tsv", "validation": "dev.tsv", "test": "test.tsv"},
    "text": {"train": "sentence", "validation": "content", "test": "sentence"},
    "label": "label",
    "labels": {0: "negative", 1: "positive"},
    "columns": {"test": ["sentence", "label"]},
}
GOOD, BAD = ("good", "warm", "clever", "fine"), ("bad", "dull", "silly", "weak")
THINGS = ("plot", "cast", "music", "ending", "script", "camera", "pace", "humour")
STORE = "mlflow.db"
LONG = {  # seconds that a file takes one of two workers, measured; those left out take less
    "test_pipeline.py": 700,
    "test_kills.py": 620,
    "test_ray.py": 390,
    "test_devices.py": 335,
    "test_deployment.py": 300,
    "test_ladder_flow.py": 280,
    "test_comparison_flow.py": 260,
    "test_training.py": 150,
    "test_chaos.py": 130,
    "test_openapi.py": 90,
    "test_release.py": 90,
}

CATALOGUE = """\
root: {root}
compute: {{threads: 2, jobs: 2, disk_gb: 0.1}}
datasets:
  tales: {{path: data/tales.txt, format: text}}
  reviews:
    path: data/reviews.jsonl
    format: jsonl
    text: review
    label: stars
    labels: {{"1": positive, "0": negative}}
prompts:
  sentiment:
    template: "{{{{text}}}} It is"
    answer: {{positive: " good", negative: " bad"}}
pipelines:
  quickstart:
    corpus: tales
    tokenizer: {{vocab_size: 320}}
    model: {{layers: 1, width: 32, heads: 2, context: 64}}
    pretrain: {{tokens: 20480, batch_tokens: 512, learning_rate: 0.01, seed: 1}}
tasks:
  sentiment: {{dataset: reviews, kind: classification, prompt: sentiment, max_eval: 60}}
adapters:
  zero_shot: {{pipeline: quickstart, task: sentiment, method: prompt, shots: 0}}
  lora: {{pipeline: quickstart, task: sentiment, method: lora, rank: 2, steps: 30}}
  soft_prompt:
    {{pipeline: quickstart, task: sentiment, method: prompt_tuning, virtual_tokens: 4, steps: 30}}
  full: {{pipeline: quickstart, task: sentiment, method: full, steps: 30, learning_rate: 0.01}}
gates:
  sentiment: {{minimum: 0.55, baseline: zero_shot, confidence: 0.9}}
deployments:
  - name: quickstart
    entrypoint: flows.pipeline:pipeline
    parameters: {{pipeline: quickstart}}
    work_pool: {{name: kindling}}
"""


def write_data(folder: Path, rows: int = 400) -> None:
    """Reviews whose label is the sign of their words, and tales that hold the same words."""
    draw = random.Random(0)
    reviews, tales = [], []
    for number in range(rows):
        label = draw.random() < 0.5
        words = draw.sample(GOOD if label else BAD, 2)
        text = f"The {draw.choice(THINGS)} of film {number} is {words[0]} and {words[1]}."
        reviews.append({"review": text, "stars": int(label)})
        tales.append(f"{text} It is {'good' if label else 'bad'}.")
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row) for row in reviews]
    (folder / "reviews.jsonl").write_text("\n".join(lines), encoding="utf-8")
    groups = ["\n\n".join(tales[n : n + 2]) for n in range(0, rows, 2)]
    long_enough = "\n\n".join(f"{group} {'And so on. ' * 180}" for group in groups[:60])
    (folder / "tales.txt").write_text(long_enough, encoding="utf-8")


def new_workspace(folder: Path) -> Path:
    """A git and DVC repository with a tiny catalogue, as `kindling init` would leave it."""
    write_data(folder / "data")
    (folder / "pipelines.yaml").write_text(CATALOGUE.format(root=ROOT), encoding="utf-8")
    shutil.copy(ROOT / "dvc.yaml", folder / "dvc.yaml")
    for command in (
        ["git", "init", "-q"],
        [sys.executable, "-m", "dvc", "init", "-q"],
        [sys.executable, "-m", "dvc", "config", "core.analytics", "false"],
    ):
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


def make_workspace(folder: Path) -> Path:
    """A copy of a new workspace, with an MLflow store that has its tables already."""
    shutil.copytree(_workspace(), folder, symlinks=True, dirs_exist_ok=True)
    return give_store(folder)


def give_store(folder: Path) -> Path:
    """Let `folder` have an MLflow store with tables and nothing in them; `isolate` names it."""
    shutil.copy(_store(), folder / STORE)
    return folder


@cache
def _patterns() -> tempfile.TemporaryDirectory:
    """Holds what is copied: to make it takes seconds each time, which test after test would pay."""
    return tempfile.TemporaryDirectory(prefix="kindling-patterns-")


@cache
def _workspace() -> Path:
    return new_workspace(Path(_patterns().name) / "workspace")


@cache
def _store() -> Path:
    from mlflow import MlflowClient

    path = Path(_patterns().name) / STORE
    MlflowClient(tracking_uri=f"sqlite:///{path}")  # makes the tables
    return path


def pytest_unconfigure() -> None:
    if _patterns.cache_info().currsize:
        _patterns().cleanup()


def change(workspace: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Let `edit` change the catalogue of `workspace`."""
    yaml, path = YAML(), workspace / "pipelines.yaml"
    document = yaml.load(path.read_text(encoding="utf-8"))
    edit(document)
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)


def keep_one_adapter(workspace: Path, *more: str) -> None:
    """Of the tiny catalogue's adapters only the one that takes no training, and `more`."""

    def edit(document: dict[str, Any]) -> None:
        document["adapters"] = {name: document["adapters"][name] for name in ("zero_shot", *more)}

    change(workspace, edit)


def keep_base_alone(workspace: Path) -> None:
    """Let a run of the tiny catalogue make a base, judge it, and end.

    The catalogue refuses a base that nothing adapts. A comparison does that here, which belongs to
    another base that it names first, and to the runs of that one.
    """
    sizes = {"pipeline": ["other", "quickstart"], "task": "sentiment", "seeds": 1}
    sizes["methods"] = {"prompt": {}, "lora": {"rank": 2}}
    (workspace / "models" / "other").mkdir(parents=True)

    def edit(document: dict[str, Any]) -> None:
        document["pipelines"]["other"] = {"base": "models/other"}
        document.update(adapters={}, gates={}, comparisons={"sizes": sizes})

    change(workspace, edit)
    expansion.renew(workspace, load(workspace), str)


def waiting(workspace: Path, target: str) -> set[str]:
    """The stages of a pipeline or ladder that a flow would run."""
    return set(load(workspace).stages_of(target)).intersection(graph.stale(workspace))


def asked(workspace: Path, *words: str) -> str:
    """What the command `kindling` with these words prints, in this process, which has imported all.

    Of one that fails, a process of its own shows what its user sees.
    """
    from flows.cli import app

    with patch.dict(os.environ):  # to which each command adds
        done = CliRunner().invoke(app, ["-C", str(workspace), *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def tiny_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace of its own for one test, with its own MLflow store and Prefect home."""
    folder = make_workspace(tmp_path / "workspace")
    isolate(monkeypatch, folder)
    return folder


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a Prefect server answers, for flows whose own one is not what a test is about.

    A flow takes some 8 s to start its own.
    """
    folder = tmp_path_factory.mktemp("prefect")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    made = leash.TEMPORARY_SERVER
    command = [sys.executable, "-m", "uvicorn", "--factory", made, "--port", str(port)]
    environment = {**os.environ, **settings.QUIET, "PREFECT_HOME": str(folder)}
    address = f"http://127.0.0.1:{port}/api"
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    leash.tie_server()  # it ends however these tests end
    try:
        _wait_for_health(address, server)
        yield address
    finally:
        server.kill()
        server.wait()


def _wait_for_health(address: str, server: subprocess.Popen, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        with suppress(httpx.TransportError):
            if httpx.get(f"{address}/health").is_success:
                return
        time.sleep(0.1)
    raise AssertionError("Prefect's server did not start")


@pytest.fixture
def flow_workspace(
    tiny_workspace: Path, prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """`tiny_workspace`, for flows."""
    monkeypatch.setenv("PREFECT_API_URL", prefect_server)
    return tiny_workspace


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Folders of a tiny base and its adapters; read only."""
    from tests.tiny_models import make_folders

    return make_folders(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def sst2_if_there(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """The folder of SST-2's files, from a DVC mirror beside the repository; None without one."""
    if not (MIRROR / "dvc").is_dir() or not (MIRROR / "datasets" / "sst2.dvc").is_file():
        return None
    folder = tmp_path_factory.mktemp("sst2")
    (folder / "sst2.dvc").write_bytes((MIRROR / "datasets" / "sst2.dvc").read_bytes())
    for command in (
        ["init", "-q", "--no-scm"],
        ["remote", "add", "--local", "mirror", str(MIRROR / "dvc")],
        ["pull", "-q", "-r", "mirror", "sst2.dvc"],
    ):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=folder, check=True)
    return folder / "sst2"


@pytest.fixture(scope="session")
def sst2(sst2_if_there: Path | None) -> Path:
    if sst2_if_there is None:
        pytest.skip("SST-2 is pulled from a DVC mirror beside the repository, and there is none")
    return sst2_if_there


def isolate(monkeypatch: pytest.MonkeyPatch, folder: Path, server: str | None = None) -> None:
    """Let the workspace `folder` know of nothing outside. server: Prefect's, else its own."""
    monkeypatch.setenv("PREFECT_HOME", str(folder / ".prefect"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / STORE}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    if server is not None:
        monkeypatch.setenv("PREFECT_API_URL", server)
    # MLflow writes it into the environment where a test names a registry in its own process
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    settings.home.cache_clear()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Fast tests first, so that a failure shows early.

    xdist hands out whole files, so its workers, which all must have one order, sort those: first
    the ones without a slow test, then the longest, so that none of them is left for the end, when
    the other workers have nothing to do.
    """

    def slow(item: pytest.Item) -> bool:
        return item.get_closest_marker("slow") is not None

    items.sort(key=slow)
    if hasattr(config, "workerinput"):
        seconds = {item.path: LONG.get(item.path.name, 0) for item in items if slow(item)}
        items.sort(key=lambda item: -seconds.get(item.path, math.inf))
