"""What a run may use of a machine, and of how many."""

from pydantic import Field, model_validator

from components.block import Block
from components.training.devices import Strategy
from components.training.group import Engine


class Compute(Block):
    """What a run may use of a machine, and of how many. DVC reads threads and jobs, and knows no
    defaults.
    """

    threads: int = Field(ge=1, examples=[2], description="of a run, and all of them for the base")
    jobs: int = Field(ge=1, examples=[1], description="stages at once; they share the threads")
    disk_gb: float = Field(default=1.0, ge=0, description="free space to insist on, in GB")
    engine: Engine = Field(default="local", description="local: torchrun; or a Ray cluster")
    nodes: int = Field(default=1, ge=1, description="machines that pretrain together")
    rendezvous: str | None = Field(default=None, description="HOST:PORT where nodes meet")
    processes: int = Field(
        default=1, ge=1, description="of each node, that pretrain together; they share threads"
    )
    strategy: Strategy = Field(
        default="ddp", description="what they share: batches, or all weights"
    )
    price_per_hour: float | None = Field(default=None, ge=0, description="of a machine")

    @model_validator(mode="after")
    def _a_thread_for_each(self) -> "Compute":
        if self.jobs > self.threads:
            raise ValueError(f"jobs {self.jobs} is more than threads {self.threads}")
        if self.processes > self.threads:
            raise ValueError(f"processes {self.processes} is more than threads {self.threads}")
        return self

    @model_validator(mode="after")
    def _nodes_can_meet(self) -> "Compute":
        """`torchrun` must be told where; a Ray cluster has an address of its own."""
        told = self.rendezvous
        if self.nodes == 1 or self.engine == "ray":
            if told:
                why = f"nodes {self.nodes} with engine {self.engine}"
                raise ValueError(f"rendezvous {told} has no use for {why}; drop it")
            return self
        host, _, port = (told or "").rpartition(":")
        if not (host and port.isdigit() and 0 < int(port) < 1 << 16):
            raise ValueError(
                f"nodes {self.nodes} with engine local need 'rendezvous: HOST:PORT' (got {told}), "
                "an address of the machine that runs the pipeline and a free port there; or "
                "'engine: ray'"
            )
        return self

    def jobs_of(self, stage: str) -> int:
        """How many jobs `stage` counts for: pretraining has the machine alone."""
        return self.jobs if stage.startswith("base@") else 1

    def threads_of(self, stage: str) -> int:
        """The threads of `stage`, however it is started: their number shapes the last bits."""
        return self.threads if stage.startswith("base@") else self.threads // self.jobs
