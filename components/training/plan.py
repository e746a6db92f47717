"""How a model is trained: what the catalogue asks for, and what is chosen at run time."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from components.reporter import Reporter
from components.training import devices, machine
from components.training.checkpoint import Checkpoints
from components.training.optimizers import Optimizer
from components.training.schedule import Range, Schedule, learning_rate

Compile = Literal["auto", "always", "never"]
# FLOP/s without compilation, for a guess at a run's length: of a core about what small decoders
# reach (bench/training.py); of an accelerator an assumption (compiled, an H200 reaches 3.3e14)
EAGER_RATE = {"cpu": 5e10, "cuda": 2.5e13}
REPAID_SECONDS = 180.0
ROOM = 0.8  # of the free memory: other processes live here too


@dataclass(frozen=True)
class Plan:
    """How to train.

    rows: sequences of a step, over all devices. learning_rate: the peak. warmup: part of the steps.
    clip: the largest gradient norm. precision: of the matrix products, weights stay float32.
    exact: the same bits every time, on an accelerator too.
    micro_rows: sequences at once on a device; None finds the most that fit. tokens: those of a
    step, counted in reports; 0 counts steps instead. flops: those of the model for one token,
    forward and backward; 0 where nobody counted. bytes_per_token: of the training split and of the
    validation split, for bits per byte; None: not told.
    price: of the machine, an hour. strategy: what several processes share, if there are any.
    """

    steps: int
    rows: int
    learning_rate: float
    warmup: float
    weight_decay: float
    clip: float
    evaluate_every: int
    checkpoint_minutes: float
    precision: machine.Precision
    seed: int
    exact: bool = True
    schedule: Schedule | Range = "cosine"
    optimizer: Optimizer = "adamw"
    compile: Compile = "never"
    micro_rows: int | None = None
    tokens: int = 0
    flops: float = 0.0
    bytes_per_token: tuple[float, float] | None = None
    price: float | None = None
    strategy: devices.Strategy = "ddp"

    def rate(self, step: int) -> float:
        """The learning rate of `step`, from 0."""
        return learning_rate(step, self.steps, self.learning_rate, self.warmup, self.schedule)

    @property
    def told_every(self) -> int:
        return max(1, self.steps // 100)  # points of a loss curve


def evaluate_every(steps: int, evaluations: int) -> int:
    """After how many steps each time, so that with the one at the end there are at most
    `evaluations` in all.
    """
    return -(-steps // evaluations)


@dataclass(frozen=True)
class Choices:
    """What may shape the last bits and is chosen at run time; a resumed run takes it over.

    micro_rows: sequences at once on a device. halved: how many from a step on where memory ran out,
    by that step; a run that goes on from before it must take the steps up to it as they were taken.
    """

    precision: machine.Precision
    compiled: bool
    micro_rows: int
    halved: Mapping[str, int] = field(default_factory=dict)

    def rows_at(self, step: int) -> int:
        """How many sequences at once `step` takes."""
        begun = [int(first) for first in self.halved if int(first) <= step]
        return self.halved[str(max(begun))] if begun else self.micro_rows

    def halved_at(self, step: int) -> "Choices":
        return replace(self, halved={**self.halved, str(step): self.rows_at(step) // 2})


def choose(
    plan: Plan,
    rows: int,
    row_bytes: Callable[[machine.Precision], float],
    held: float,
    checkpoints: Checkpoints,
) -> Choices:
    """What this run was begun with, or else what suits this machine, kept for the next try.

    rows: sequences of a step on this device. row_bytes: of the activations of one, by precision.
    held: bytes that stand beside them. Processes on one machine share what is free.
    """
    found = devices.agreed(checkpoints.remembered())
    if found:  # another number of processes may have begun this run
        made = Choices(**found)
        halved = {step: min(most, rows) for step, most in made.halved.items()}
        return replace(made, micro_rows=min(made.micro_rows, rows), halved=halved)
    precision = machine.resolved(plan.precision)
    row = row_bytes(precision)
    most = plan.micro_rows or rows
    room = ROOM * machine.free_memory() / devices.beside() - held
    while plan.micro_rows is None and most > 1 and most * row > room:
        most = -(-most // 2)
    made = devices.agreed(Choices(precision, _compiles(plan), min(most, rows)))
    if devices.first():
        checkpoints.remember(asdict(made))
    return made


def _compiles(plan: Plan) -> bool:
    """Whether to compile: where asked to, or where the run is long enough to repay it.

    The length is counted, not measured, so that the same run makes the same choice again.
    """
    kind = machine.device().type
    cores = machine.threads() if kind == "cpu" else 1
    seconds = plan.flops * plan.tokens * plan.steps / (EAGER_RATE[kind] * cores)
    wanted = plan.compile == "always" or (plan.compile == "auto" and seconds > REPAID_SECONDS)
    if wanted and kind == "cpu" and not machine.can_compile():
        print("no C++ compiler is here, so nothing is compiled; with one (g++) training is faster")
        return False
    return wanted


def tell(plan: Plan, choices: Choices, report: Reporter) -> None:
    """Record what was chosen."""
    report.params(
        {
            "precision_used": choices.precision,
            "compiled": choices.compiled,
            "micro_rows": choices.micro_rows,
            "accumulation": -(-plan.rows // devices.count() // choices.micro_rows),
            "processes": devices.count(),
        }
    )
