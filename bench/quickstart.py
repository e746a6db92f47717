"""How long the quickstart takes, stage by stage: `python bench/quickstart.py`.

Runs it in a fresh clone of this repository's last commit, with the environment that is installed,
then `dvc repro`, which has nothing to do. `--keep DIR` leaves the clone there.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def call(folder: Path, *command: str) -> float:
    """Seconds of `command`, whose own output is shown."""
    binaries = str(Path(sys.executable).parent)
    changes = {"PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(folder)}
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, env={**os.environ, **changes}, check=True)
    return round(time.perf_counter() - started, 2)


def measure(clone: Path) -> dict[str, object]:
    """Run the quickstart in `clone`, made from the last commit, and read what came out."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    whole = call(clone, "kindling", "run", "quickstart")
    again = call(clone, "dvc", "repro")
    results = sorted((clone / ".kindling" / "results").glob("*.json"))
    seconds = {path.stem: json.loads(path.read_text())["seconds"] for path in results}
    scores = (clone / "artifacts/quickstart/evaluations").glob("*/metrics.json")
    found = {path.parent.name: json.loads(path.read_text()) for path in sorted(scores)}
    base = found.pop("base")
    return {
        "seconds": whole,
        "dvc_repro_after_seconds": again,
        "stage_seconds": seconds,
        "nats_over_exact": {"all": base["ratio"]}
        | {kind: figures["ratio"] for kind, figures in base["by_kind"].items()},
        "scores": {n: [f["score"], *f["interval"]] for n, f in found.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--keep", type=Path, metavar="DIR", help="a new folder for the clone")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = json.dumps(measure(given.keep or Path(name) / "kindling"), indent=1)
    print(found)
    if given.json:
        given.json.write_text(found, encoding="utf-8")


if __name__ == "__main__":
    main()
