"""The one training loop: pretraining and every adapter go through it.

The batch of a step is a function of the step alone, and so are the random numbers that it draws:
there is no state of a loader or generator to lose, and a resumed run sees what an uninterrupted one
would have seen.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from components.reporter import Reporter
from components.training import devices, machine, optimizers
from components.training.checkpoint import Checkpoints
from components.training.plan import Choices, Plan, choose, tell
from components.training.telling import Teller

if TYPE_CHECKING:
    import torch

STOPPING = (signal.SIGTERM, signal.SIGINT)


class Diverged(ValueError):
    """The loss is no number any more; the message names step, batch, and the last checkpoint."""


class Interrupted(SystemExit):
    """The run was asked to stop and did, behind a checkpoint."""


class Objective(Protocol):
    """What is trained, and on what."""

    module: "torch.nn.Module"  # batch -> its share of the step's mean loss; shares add up to it

    def row_bytes(self, precision: machine.Precision) -> float:
        """The memory that one sequence of a step needs, about; 0 where it does not matter."""

    def step_bytes(self) -> float:
        """The memory that a step needs beside its sequences, gradients and optimiser's state."""

    def batch(self, step: int, rows: range) -> "tuple[torch.Tensor, ...]":
        """Those of the step's sequences that `rows` counts, as `module` takes them."""

    def validate(self) -> float:
        """The validation loss of the model as it is."""

    def describe(self, step: int) -> str:
        """Where the batch of `step` comes from."""

    def prepare(self, precision: machine.Precision, compiled: bool) -> None:
        """Let `module` train from now on with products in `precision`, compiled or not."""


def train(
    objective: Objective,
    plan: Plan,
    checkpoints: Checkpoints,
    report: Reporter,
    asked: list[int] | None = None,
) -> list[dict[str, float]]:
    """Train what requires gradients in `objective.module`, from the newest checkpoint if any.

    asked: numbers of signals to stop that reach the run some other way; may grow from a thread.
    Returns the history: `step`, `tokens`, `loss`, `learning_rate`, `gradient_norm`, here and there
    `validation_loss`; nothing in it depends on time.

    Raises:
        Diverged: loss or gradient became infinite or no number.
        Interrupted: SIGTERM or SIGINT came; a checkpoint was written first.
        OSError: a checkpoint could not be written.
    """
    run = _Run(objective, plan, checkpoints, report)
    run.resume()
    with machine.repeating(plan.exact), _asked_to_stop(asked) as stopped:
        for step in range(run.done, plan.steps):
            loss, norm = run.update(step)
            run.note_if_due(step, loss, norm)
            run.save_if_due(step + 1, stopped)
    objective.module.eval()
    run.teller.end()
    return run.teller.history


@contextmanager
def _asked_to_stop(asked: list[int] | None) -> Iterator[list[int]]:
    """`asked`, which receives the number of a signal to stop; a second one acts at once."""
    received = [] if asked is None else asked
    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread may handle signals
        return

    def note(number: int, _frame: Any) -> None:
        received.append(number)
        signal.signal(number, before[number])

    before = {number: signal.signal(number, note) for number in STOPPING}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _seed(*numbers: int) -> int:
    """A seed for what one micro-batch draws, from the run's seed and its place in the run."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


class _Run:
    """What a run carries from step to step."""

    def __init__(
        self, objective: Objective, plan: Plan, checkpoints: Checkpoints, report: Reporter
    ) -> None:
        self.objective, self.plan, self.checkpoints = objective, plan, checkpoints
        self.rows = devices.share(plan.rows)
        self.parameters = [p for p in objective.module.parameters() if p.requires_grad]
        trainable = sum(p.numel() for p in self.parameters)
        held = 12 * trainable + objective.step_bytes()  # gradients, and AdamW's two averages
        self.choices = choose(plan, len(self.rows), objective.row_bytes, held, checkpoints)
        tell(plan, self.choices, report)
        row = objective.row_bytes(self.choices.precision)
        machine.settle_memory(devices.beside() * (held + self.choices.micro_rows * row))
        objective.prepare(self.choices.precision, self.choices.compiled)
        self.forward = devices.spread(objective.module, plan.strategy)
        self.parameters = [p for p in objective.module.parameters() if p.requires_grad]
        self.optimizers = optimizers.build(
            plan.optimizer, objective.module, plan.learning_rate, plan.weight_decay
        )
        self.teller = Teller(plan, self.choices, report)
        self.done = 0
        self._saved = time.monotonic()
        self._ahead: tuple[tuple[int, range], tuple[torch.Tensor, ...]] | None = None

    def resume(self) -> None:
        import torch

        found = self.checkpoints.latest()
        if found is None:
            return self.teller.begin(0, [], 0.0)
        self.done, state = found
        with torch.no_grad():
            for parameter, saved in zip(self.parameters, state["parameters"], strict=True):
                parameter.copy_(devices.like(saved.to(parameter.device), parameter))
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            own = [p for group in optimizer.param_groups for p in group["params"]]
            optimizer.load_state_dict(devices.spread_state(saved, own))
        self.teller.begin(self.done, state["history"], state["worked"])

    def update(self, step: int) -> tuple[float, float]:
        """Train on the batch of `step`; its mean loss, and the norm of its gradient."""
        import torch

        if not self.objective.module.training:
            self.objective.module.train()
        shares = self._gradients(step)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.plan.clip)
        rate = self.plan.rate(step)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if step + 1 < self.plan.steps:
            self._look_ahead(step + 1)
        # from here on an accelerator is awaited: all of the step and the next batch are on it
        loss = devices.total(sum(float(share) for share in shares))
        norm = float(devices.whole(norm))
        if not (loss < float("inf") and norm < float("inf")):
            raise self._diverged(step, loss, norm)
        return loss, norm

    def _gradients(self, step: int) -> "list[torch.Tensor]":
        """Fill the gradients; where memory runs out, with half as many sequences at once."""
        import torch

        while True:
            try:
                return self._accumulate(step)
            except torch.OutOfMemoryError:
                if self.choices.rows_at(step) == 1 or devices.count() > 1:
                    raise
                self.choices: Choices = self.choices.halved_at(step)
                self.checkpoints.remember(asdict(self.choices))
            for optimizer in self.optimizers:
                optimizer.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()

    def _accumulate(self, step: int) -> "list[torch.Tensor]":
        """The shares of the loss, one a micro-batch."""
        import torch

        kind = machine.device().type
        low = self.choices.precision == "bfloat16"
        shares = []
        starts = range(self.rows.start, self.rows.stop, self.choices.rows_at(step))
        for start in starts:
            batch = self._begun(step, self._part(step, start))
            with devices.last_of(self.forward, start == starts[-1]):
                with torch.autocast(kind, torch.bfloat16, enabled=low):
                    share = self.forward(*batch)
                (share * devices.count()).backward()  # devices average their gradients
            shares.append(share.detach())
        return shares

    def _part(self, step: int, start: int) -> range:
        """The rows of the micro-batch of `step` that begins at `start`."""
        return range(start, min(start + self.choices.rows_at(step), self.rows.stop))

    def _begun(self, step: int, part: range) -> "tuple[torch.Tensor, ...]":
        """The batch, and random numbers as they are to be when it is trained on."""
        import torch

        ahead, self._ahead = self._ahead, None
        if ahead and ahead[0] == (step, part):
            return ahead[1]
        torch.manual_seed(_seed(self.plan.seed, step, part.start))
        return self.objective.batch(step, part)

    def _look_ahead(self, step: int) -> None:
        part = self._part(step, self.rows.start)
        self._ahead = ((step, part), self._begun(step, part))

    def _diverged(self, step: int, loss: float, norm: float) -> Diverged:
        plan = self.plan
        kept: Path | None = self.checkpoints.newest()
        good = f"the last good checkpoint is {kept}" if kept else "no checkpoint was written yet"
        return Diverged(
            f"the loss is {loss} and its gradient's norm {norm} at step {step + 1}, on "
            f"{self.objective.describe(step)}; {good}. Look at this data, or lower the learning "
            f"rate (it is {plan.learning_rate}) or 'clip' ({plan.clip})"
        )

    def note_if_due(self, step: int, loss: float, norm: float) -> None:
        import torch

        plan, done = self.plan, step + 1
        validated = None
        if done % plan.evaluate_every == 0 or done == plan.steps:
            self.objective.module.eval()
            with torch.random.fork_rng(machine.accelerators()):  # the next batch is drawn already
                validated = self.teller.aside(self.objective.validate)
        if validated is not None or done % plan.told_every == 0:
            self.teller.note(step, loss, norm, validated)

    def save_if_due(self, done: int, stopped: list[int]) -> None:
        # 1: a checkpoint is due; more: the signal that stops a run, in the last step too, for more
        # may follow, such as a classifier
        said = devices.highest(stopped[0] if stopped else int(self._due(done)))
        if not said:
            return
        self.teller.aside(lambda: self._save(done))
        self._saved = time.monotonic()
        if said in STOPPING:
            raise Interrupted(
                f"stopped by {signal.Signals(said).name} at step {done} of {self.plan.steps}, "
                "which is kept; the same command goes on from there"
            )

    def _due(self, done: int) -> bool:
        """Whether a checkpoint is: at the end too, where the run was longer than what a kill may
        cost, for its result may be lost before it is noted.
        """
        last = done == self.plan.steps
        seconds = self.teller.so_far() if last else time.monotonic() - self._saved
        return seconds / 60 >= self.plan.checkpoint_minutes

    def _save(self, done: int) -> None:
        state = {
            "parameters": devices.whole([p.detach() for p in self.parameters]),
            "optimizers": devices.whole([o.state_dict() for o in self.optimizers]),
            "history": self.teller.history,
            "worked": self.teller.so_far(),
        }
        if devices.first():
            self.checkpoints.save(done, state)
        devices.wait_for_all()  # who is told that the run stopped may rely on its checkpoint
