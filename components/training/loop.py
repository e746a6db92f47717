"""The one training loop: pretraining and every adapter go through it.

The batch of a step is a function of the step alone, so there is no loader state to lose and a
resumed run sees what an uninterrupted one would have seen.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from components.reporter import Reporter
from components.training.checkpoint import Checkpoints
from components.training.schedule import learning_rate

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "float32", "bfloat16"]
REPORTS = 100  # points of a loss curve
BETAS = (0.9, 0.95)  # Brown et al. 2020, appendix B (GPT-3)


class Diverged(ValueError):
    """The loss is no number any more; the message names step and learning rate."""


@dataclass(frozen=True)
class Plan:
    """How to train. learning_rate: the peak. warmup: part of the steps. clip: the largest gradient
    norm. precision: of the matrix products, weights stay float32; see `resolved`. tokens: those of
    a step, counted in reports; 0 counts steps instead.
    """

    steps: int
    learning_rate: float
    warmup: float
    weight_decay: float
    clip: float
    evaluate_every: int
    checkpoint_minutes: float
    precision: Precision
    tokens: int = 0


def resolved(precision: Precision) -> Precision:
    """`auto` as this processor's faster precision: bfloat16 where it has matrix units for it.

    Measured on 2 cores, products of size 2,048: with AMX bfloat16 runs at 2.2 times float32's rate;
    with AVX512-BF16 alone at 0.6 times.
    """
    import torch

    if precision != "auto":
        return precision
    return "bfloat16" if torch.cpu.get_capabilities().get("amx_bf16") else "float32"


def train(
    model: "torch.nn.Module",
    batch_loss: Callable[[int], "torch.Tensor"],
    plan: Plan,
    checkpoints: Checkpoints,
    report: Reporter,
    validate: Callable[[], float],
) -> list[dict[str, float]]:
    """Train the parameters of `model` that require gradients, from the newest checkpoint if any.

    batch_loss: the mean loss (scalar) of the batch of a step, counted from 0. validate: the
    validation loss of the model as it is.

    Returns the history: `step`, `tokens`, `loss`, `learning_rate`, here and there
    `validation_loss`; nothing in it depends on time.

    Raises:
        Diverged: the loss became infinite or no number.
    """
    run = _Run(model, plan, checkpoints, report)
    run.resume()
    report.params({"precision_used": run.precision})
    model.train()
    for step in range(run.done, plan.steps):
        loss = run.update(step, batch_loss)
        if (step + 1) % plan.evaluate_every == 0 or step + 1 == plan.steps:
            model.eval()
            run.note(step, loss, run.aside(validate))
            model.train()
        elif (step + 1) % max(1, plan.steps // REPORTS) == 0:
            run.note(step, loss)
        run.save_if_due(step + 1)
    model.eval()
    return run.history


class _Run:
    """What a run carries from step to step."""

    def __init__(self, model, plan: Plan, checkpoints: Checkpoints, report: Reporter) -> None:
        self.model, self.plan, self.checkpoints, self.report = model, plan, checkpoints, report
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = _optimizer(self.parameters, plan)
        self.precision = resolved(plan.precision)
        self.history: list[dict[str, float]] = []
        self.done = 0
        self._saved = self._noted = time.monotonic()
        self._noted_step = 0

    def resume(self) -> None:
        import torch

        found = self.checkpoints.latest()
        if found is None:
            return
        self.done, state = found
        with torch.no_grad():
            for parameter, saved in zip(self.parameters, state["parameters"], strict=True):
                parameter.copy_(saved)
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        self.precision = state["precision"]  # another machine may have begun this run
        self.history = state["history"]
        self._noted_step = self.done
        self.report.progress(self.done, self.plan.steps, f"resumed at step {self.done}")

    def update(self, step: int, batch_loss: Callable[[int], "torch.Tensor"]) -> "torch.Tensor":
        import torch

        plan = self.plan
        rate = learning_rate(step, plan.steps, plan.learning_rate, plan.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bfloat16"):
            loss = batch_loss(step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, plan.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def aside(self, work: Callable[[], float]) -> float:
        """What `work` gives; its time is not the training's."""
        started = time.monotonic()
        value = work()
        self._noted += time.monotonic() - started
        return value

    def note(self, step: int, loss: "torch.Tensor", validation: float | None = None) -> None:
        plan = self.plan
        value = float(loss)
        if not value < float("inf"):
            raise Diverged(
                f"the loss is {value} at step {step + 1}; lower the learning rate "
                f"(it is {plan.learning_rate}) or 'clip' ({plan.clip})"
            )
        rate = learning_rate(step, plan.steps, plan.learning_rate, plan.warmup)
        figures = {"loss": value, "learning_rate": rate}
        if validation is not None:
            figures["validation_loss"] = validation
        self.history.append({"step": step + 1, "tokens": (step + 1) * plan.tokens, **figures})
        self._tell(step + 1, figures)

    def _tell(self, done: int, figures: dict[str, float]) -> None:
        plan = self.plan
        now = time.monotonic()
        speed = (done - self._noted_step) / max(now - self._noted, 1e-9)  # steps a second
        self._noted, self._noted_step = now, done
        left = (plan.steps - done) / max(speed, 1e-9)
        unit = ("tokens/s", speed * plan.tokens) if plan.tokens else ("steps/s", speed)
        name = unit[0].replace("/s", "_per_second")
        at = done * plan.tokens if plan.tokens else done
        self.report.metrics({**figures, name: unit[1]}, step=at)
        note = f"loss {figures['loss']:.3f}, {unit[1]:,.0f} {unit[0]}, {left:.0f} s left"
        self.report.progress(done, plan.steps, note)

    def save_if_due(self, done: int) -> None:
        due = time.monotonic() - self._saved >= 60 * self.plan.checkpoint_minutes
        if due and done < self.plan.steps:
            self.checkpoints.save(done, self._state())
            self._saved = time.monotonic()

    def _state(self) -> dict[str, Any]:
        import torch

        return {
            "parameters": [p.detach() for p in self.parameters],
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "precision": self.precision,
            "history": self.history,
        }


def _optimizer(parameters: Sequence["torch.Tensor"], plan: Plan) -> "torch.optim.AdamW":
    import torch

    groups = [  # matrices decay, gains and biases do not (Brown et al. 2020, appendix B)
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": plan.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=plan.learning_rate, betas=BETAS, fused=True)
