"""What a training says while it runs: in its bar, in MLflow, and at its end."""

import math
import time
from collections.abc import Callable
from typing import Any

from components.reporter import Reporter
from components.training import devices, machine
from components.training.checkpoint import WORKED
from components.training.plan import Choices, Plan


class Teller:
    """Turns steps into figures: speed, part of the machine's limit, memory, time left, cost."""

    def __init__(self, plan: Plan, choices: Choices, report: Reporter) -> None:
        self.plan, self.report = plan, report
        self.history: list[dict[str, float]] = []
        self.worked = 0.0  # seconds in all, those of interrupted tries included
        self._limit = machine.matrix_rate(choices.precision) if plan.flops else 0.0
        self._at = time.monotonic()
        self._step = 0

    def begin(self, done: int, history: list[dict[str, float]], worked: float) -> None:
        self.history, self.worked, self._step = history, worked, done
        self._at = time.monotonic()
        if done:
            self.report.progress(done, self.plan.steps, f"resumed at step {done}")

    def aside(self, work: Callable[[], Any]) -> Any:
        """What `work` gives; its time counts as work, not as training speed."""
        started = time.monotonic()
        value = work()
        taken = time.monotonic() - started
        self._at += taken
        self.worked += taken
        return value

    def so_far(self) -> float:
        """`worked` as of now: with the time since the last figures, for a checkpoint to keep."""
        return self.worked + time.monotonic() - self._at

    def note(self, step: int, loss: float, norm: float, validation: float | None) -> None:
        """Record the figures of `step` (from 0), and what they say about speed."""
        plan = self.plan
        figures = {"loss": loss, "learning_rate": plan.rate(step), "gradient_norm": norm}
        if validation is not None:
            figures["validation_loss"] = validation
        self.history.append({"step": step + 1, "tokens": (step + 1) * plan.tokens, **figures})
        if plan.bytes_per_token:
            trained, held_out = plan.bytes_per_token
            if validation is None:
                figures["bits_per_byte"] = loss / math.log(2) / trained
            else:
                figures["validation_bits_per_byte"] = validation / math.log(2) / held_out
        self._tell(step + 1, figures)

    def _tell(self, done: int, figures: dict[str, float]) -> None:
        plan = self.plan
        now = time.monotonic()
        seconds = max(now - self._at, 1e-9)
        self.worked += now - self._at
        speed = (done - self._step) / seconds  # steps a second
        self._at, self._step = now, done
        per_step, unit = (plan.tokens, "tokens") if plan.tokens else (1, "steps")
        figures[f"{unit}_per_second"] = speed * per_step
        figures["memory_gb"] = machine.peak_memory() / 1e9
        left = (plan.steps - done) / max(speed, 1e-9)
        note = f"loss {figures['loss']:.3f}, {speed * per_step:,.0f} {unit}/s, {left:.0f} s left"
        if self._limit:
            limit = self._limit * devices.count()
            figures["mfu"] = speed * plan.tokens * plan.flops / limit
            note += f", {figures['mfu']:.0%} of the matrix rate"
        self.report.metrics(figures, step=done * per_step)
        self.report.progress(done, plan.steps, note)

    def end(self) -> None:
        """Say what it cost: seconds, core-hours (device-hours on an accelerator), and money."""
        on_device = machine.device().type == "cuda"
        each = 1 if on_device else machine.threads()
        units = self.worked / 3600 * devices.count() * each
        told = {"device_hours" if on_device else "core_hours": round(units, 5)}
        told[WORKED] = round(self.worked, 2)
        if self.plan.price is not None:
            told["cost"] = round(self.worked / 3600 * self.plan.price, 6)
        per_step = self.plan.tokens or 1
        self.report.metrics(told, step=self.plan.steps * per_step)
