"""From the settings of a rung's training to the plan of the loop."""

from components.ladder.training import Training
from components.training.plan import Plan, evaluate_every


def plan_of(training: Training, rows: int, seed: int) -> Plan:
    """rows: of a step, where there are fewer than `batch_size`."""
    same = (
        "steps",
        "learning_rate",
        "warmup",
        "weight_decay",
        "clip",
        "checkpoint_minutes",
        "precision",
        "schedule",
        "optimizer",
    )
    return Plan(
        rows=rows,
        evaluate_every=evaluate_every(training.steps, training.evaluations),
        seed=seed,
        **{key: getattr(training, key) for key in same},
    )
