"""A tiny workspace that has every stage and takes seconds to run."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from flows import settings

ROOT = Path(__file__).parents[1]
GOOD, BAD = ("good", "warm", "clever", "fine"), ("bad", "dull", "silly", "weak")
THINGS = ("plot", "cast", "music", "ending", "script", "camera", "pace", "humour")

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


def make_workspace(folder: Path) -> Path:
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


def keep_one_adapter(workspace: Path) -> None:
    """Of the tiny catalogue's adapters only the one that takes no training."""
    yaml, path = YAML(), workspace / "pipelines.yaml"
    document = yaml.load(path.read_text(encoding="utf-8"))
    document["adapters"] = {"zero_shot": document["adapters"]["zero_shot"]}
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)


@pytest.fixture
def tiny_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace of its own for one test, with its own MLflow store and Prefect home."""
    folder = make_workspace(tmp_path / "workspace")
    isolate(monkeypatch, folder)
    return folder


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Folders of a tiny base and its adapters; read only."""
    from tests.tiny_models import make_folders

    return make_folders(tmp_path_factory.mktemp("models"))


def isolate(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(folder / ".prefect"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    settings.home.cache_clear()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first, so that a failure shows early."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
