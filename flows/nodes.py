"""This machine as one of several that pretrain together; another one runs the pipeline."""

from pathlib import Path

from components.catalogue import load, suggestion
from components.reporter import Silent
from components.training import launch
from flows import evidence, settings
from flows.finished import checkpoints_of


class _Bar(Silent):
    """Shows progress, and keeps nothing: the first machine does."""

    def __init__(self, stage: str) -> None:
        self.progress = evidence.bar(stage)


def join(workspace: Path, stage: str, node: int) -> None:
    """Wait until `stage` trains on the machine that runs it, and do the share of machine `node`.

    Raises:
        ValueError: the stage is no base that is trained here, the catalogue names one machine, or
            its processes failed.
        SystemExit: the training was asked to stop.
    """
    catalogue = load(workspace, check_files=False)
    compute = catalogue.compute
    trained = [f"base@{name}" for name, p in catalogue.pipelines.items() if p.base is None]
    if stage not in trained:
        raise ValueError(
            f"'{stage}' is no base to pretrain on several machines{suggestion(stage, trained)}"
        )
    if compute.engine == "ray":
        raise ValueError("a machine joins a Ray cluster with 'ray start --address=HOST:6379'")
    if compute.nodes == 1:
        raise ValueError("compute.nodes is 1; set it, and compute.rendezvous, on all machines")
    settings.apply(workspace, compute.threads)
    launch.join(checkpoints_of(workspace, stage), node, _Bar(stage))
