"""The processes that train one model together: how many, where, and who starts them."""

from dataclasses import dataclass
from typing import Literal

from components.training.devices import Strategy

Engine = Literal["local", "ray"]


@dataclass(frozen=True)
class Group:
    """processes, threads: of each machine; threads are those of all its processes together.

    engine: `torchrun` on each machine (`local`), or Ray Train. meeting: where machines meet:
    HOST:PORT of the first of them, or for Ray the address of a cluster that runs; None: this
    machine alone.
    """

    processes: int
    threads: int
    strategy: Strategy = "ddp"
    nodes: int = 1
    engine: Engine = "local"
    meeting: str | None = None

    @property
    def count(self) -> int:
        return self.nodes * self.processes

    @property
    def threads_each(self) -> int:
        return self.threads // self.processes
