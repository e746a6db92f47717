"""What a candidate must show on test data before it serves: a decision with its reasons."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from components.block import Block


class Gate(Block):
    """Judges all adapters with the pipeline and task of its baseline.

    minimum, or maximum where lower is better (bits per byte, perplexity): the score that may serve.
    """

    minimum: float | None = Field(default=None, ge=0, le=1)
    maximum: float | None = Field(default=None, gt=0)
    baseline: str = Field(description="the adapter, usually a bare prompt, that must be beaten")
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1, description="of the paired intervals that must exclude zero"
    )

    @model_validator(mode="after")
    def _one_bound(self) -> "Gate":
        if (self.minimum is None) == (self.maximum is None):
            raise ValueError(
                f"minimum {self.minimum}, maximum {self.maximum}: a gate needs one of them, "
                "maximum where a lower score is better"
            )
        return self

    def reached(self, score: float) -> bool:
        """Whether `score` is good enough by itself."""
        if self.minimum is not None:
            return score >= self.minimum
        assert self.maximum is not None
        return score <= self.maximum


@dataclass(frozen=True)
class Decision:
    """reasons: one sentence for each criterion, met or not. differences: [mean, low, high] by
    rival: the baseline's name, and `champion` where there is one.
    """

    promoted: bool
    reasons: tuple[str, ...]
    differences: dict[str, list[float]]

    def record(self, key: str) -> dict[str, Any]:
        """What is kept of it, as JSON. key: of all that it rests on; an equal key needs no other.

        `passed` is the gate's word and stays; `promoted` and `summary` are what came of it.
        """
        word = "promoted" if self.promoted else "refused"
        return {
            "key": key,
            "passed": self.promoted,
            "promoted": self.promoted,
            "reasons": list(self.reasons),
            "differences": self.differences,
            "summary": f"{word}: {'; '.join(self.reasons)}",
        }


def decide(gate: Gate, candidate: Path, baseline: Path, champion: Path | None) -> Decision:
    """Promote `candidate` if it reaches the bound and surely beats the baseline and the champion.

    candidate, baseline, champion: evaluation folders; champion is None for the first candidate.
    "Surely" means that the paired bootstrap interval of the difference lies above zero.

    Raises:
        ValueError: a folder is missing, or its comparison key is not the candidate's.
    """
    from components.evaluation.compare import difference, metrics_of  # numpy: not to read a Gate

    figures = metrics_of(candidate)
    enough = gate.reached(figures["score"])
    verdicts = [enough]
    reasons = [f"{figures['metric']} {figures['score']:.3f} {_bound(gate, enough)}"]
    differences = {}
    rivals = [(gate.baseline, gate.baseline, baseline)]
    rivals += [("champion", "the champion", champion)] if champion else []
    for key, spoken, rival in rivals:
        gap = difference(candidate, rival, gate.confidence)
        verdicts.append(gap[1] > 0)
        reasons.append(_reason(spoken, gap))
        differences[key] = list(gap)
    return Decision(all(verdicts), tuple(reasons), differences)


def _bound(gate: Gate, enough: bool) -> str:
    if gate.minimum is not None:
        return f"{'≥' if enough else '<'} {gate.minimum:g}"
    return f"{'≤' if enough else '>'} {gate.maximum:g}"


def _reason(rival: str, gap: tuple[float, float, float]) -> str:
    mean, low, high = gap
    figures = f"{mean:+.3f} [{low:.3f}, {high:.3f}]"
    return f"{figures} over {rival}" if low > 0 else f"not better than {rival}: {figures}"
