"""The final trainings: a tuned method trained anew from a seed, and judged on test data."""

import shutil
import time
from pathlib import Path
from typing import Any

from components.adapters.training import train_adapter
from components.comparison.block import Entry, is_trained
from components.evaluation import evaluate_adapter
from components.lineage import LINEAGE, folder_hash, read_json, write_json
from components.reporter import Reporter
from components.training.checkpoint import Checkpoints

KEPT_SEED = 1  # its adapter stays, so that serving it can be measured


def train_final(
    entry: Entry,
    seed: int,
    search: Path,
    task: Path,
    base: Path,
    out: Path,
    *,
    checkpoints: Path,
    identity: str,
    report: Reporter,
) -> dict[str, float]:
    """Train `entry` with the settings that the folder `search` found, and judge it.

    Writes an evaluation folder with `final.json` beside: what was compared, and what it took. The
    seconds are those of this machine; of a resumed run also those that led to its checkpoint.

    Raises:
        ValueError: the task has too few rows, or the training diverged.
    """
    found = read_json(search / "search.json")
    adapter = out / "adapter"
    adapter.mkdir()
    block = entry.block(found["best"]["settings"], seed, found["steps"])
    _, spent = Checkpoints(checkpoints, identity).so_far()
    started = time.perf_counter()
    figures = train_adapter(
        block,
        entry.name,
        task,
        base,
        adapter,
        checkpoints=checkpoints,
        identity=identity,
        report=report,
    )
    seconds = spent + time.perf_counter() - started
    scores = evaluate_adapter(adapter, task, base, out, report)
    told = _about(entry, base) | {
        "seed": seed,
        "settings": found["best"]["settings"],
        "trainable_parameters": int(figures["trainable_parameters"]),
        "rows_cut": int(figures.get("truncated", 0)),  # of the training rows
        "bytes": sum(path.stat().st_size for path in adapter.rglob("*.safetensors")),
        "train_seconds": round(seconds, 2) if is_trained(entry.adapter) else 0.0,
        "search_seconds": found["seconds"],
    }
    write_json(out / "final.json", told)
    if seed == KEPT_SEED:
        content = {"content": folder_hash(adapter), "inputs": {}}
        write_json(adapter / LINEAGE, content)  # as every adapter that is served has it
    else:
        shutil.rmtree(adapter)
    return {**scores, "train_seconds": seconds}


def _about(entry: Entry, base: Path) -> dict[str, Any]:
    """What was compared."""
    from components.models import llama

    same = ("key", "comparison", "pipeline", "task", "name", "examples")
    parameters = llama.load(base).num_parameters()
    told = {name: getattr(entry, name) for name in same}
    return told | {"method": entry.adapter.method, "base_parameters": parameters}
