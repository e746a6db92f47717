"""One stage in one process: `python -m flows.stage STAGE@NAME`, the command of every DVC stage."""

import argparse
import sys
from pathlib import Path

from flows import forkserver, leash, settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("stage", metavar="STAGE@NAME", help="as 'dvc stage list' names it")
    stage = parser.parse_args().stage
    code = forkserver.hand_over("flows.stage", [stage])
    sys.exit(_make(stage) if code is None else code)


def _make(stage: str) -> str | None:
    """Make `stage` in this process; what went wrong, None where nothing did."""
    # not before: a stage that is handed over has no use for them, and they take half a second
    from components import locks
    from components.catalogue import load
    from flows import graph, making

    workspace = Path.cwd()
    try:
        settings.apply(workspace, load(workspace, check_files=False).compute.threads_of(stage))
        leash.tie()
        making.run(workspace, stage)
    except (ValueError, OSError, locks.Held, graph.StageFailed, graph.TornLock) as error:
        return f"{stage}: {error}"
    return None


if __name__ == "__main__":
    main()
