"""`kindling evaluate`: a pipeline's evaluations and what they need, without the registry."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from components import locks
from components.catalogue import Catalogue
from components.lineage import read_json
from flows import data, expansion, forkserver, graph, settings


def evaluate(
    workspace: Path, catalogue: Catalogue, pipeline: str, say: Callable[[str], None]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Bring each adapter's evaluation up to date; give its name and `metrics.json`.

    Raises:
        Held: a run is at work in this workspace.
        DataError: data is missing or changed.
        StageFailed: a stage failed.
    """
    with locks.hold(workspace / ".kindling" / "run.lock"):
        graph.ensure_repository(workspace)
        expansion.renew(workspace, catalogue, say)
        datasets = catalogue.datasets_of(pipeline)
        stale = graph.stale(workspace)
        data.check(workspace, catalogue, datasets, stale, say)
        with forkserver.running(workspace) if stale else nullcontext() as server:
            environment = settings.child_environment(settings.told(None, server))
            for name in catalogue.adapters_of(pipeline):
                graph.reproduce(workspace, f"evaluation@{name}", environment, say, upstream=True)
                folder = workspace / "artifacts" / pipeline / "evaluations" / name
                yield name, read_json(folder / "metrics.json")
