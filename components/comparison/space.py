"""What a trial tries: a point of a method's settings, a function of its number alone."""

from collections.abc import Mapping
from typing import Any

from components.adapters import METHODS
from components.comparison.block import is_trained

# a trial's rate lies between these parts of the lower and of the higher of two hints, evenly on a
# logarithmic scale: what the range test found, which is noisy where a loss hardly falls at first,
# as with soft prompts, and what the method has as its default
BELOW, ABOVE = 1 / 10, 3.0


def point(
    adapter: Any, choices: Mapping[str, tuple], number: int, rate: float | None
) -> dict[str, Any]:
    """The settings of trial `number`, from 0. choices: what else is open, see `open_choices`. rate:
    the range test's; None: nothing is trained.

    A Halton sequence (Halton 1960) spreads any number of trials evenly over rate and choices: the
    first n of m trials are the trials of a search of n.
    """
    if rate is None:
        return _designs(choices)[number]
    from scipy.stats import qmc

    sampler = qmc.Halton(1 + len(choices), scramble=False)
    sampler.fast_forward(number + 1)  # the first point is a corner
    place, *others = sampler.random(1)[0]
    chosen = {
        name: values[int(part * len(values))]
        for (name, values), part in zip(choices.items(), others, strict=True)
    }
    low, high = rates(adapter, rate)
    chosen["learning_rate"] = float(f"{low * (high / low) ** place:.3g}")
    return chosen


def rates(adapter: Any, found: float) -> tuple[float, float]:
    """The lowest and the highest learning rate to try. found: the range test's."""
    hints = (found, adapter.learning_rate)
    return min(hints) * BELOW, max(hints) * ABOVE


def count(adapter: Any, choices: Mapping[str, tuple], trials: int) -> int:
    """How many trials there are to make."""
    return trials if is_trained(adapter) else min(trials, len(_designs(choices)))


def open_choices(adapter: Any) -> dict[str, tuple]:
    """The settings that a method leaves to a search, but those that the catalogue has set."""
    offered = METHODS[adapter.method].choices
    return {name: v for name, v in offered.items() if name not in adapter.model_fields_set}


def _designs(choices: Mapping[str, tuple]) -> list[dict[str, Any]]:
    """Every combination: a prompt has few, and trying one costs no training."""
    designs: list[dict[str, Any]] = [{}]
    for name, values in choices.items():
        designs = [{**design, name: value} for design in designs for value in values]
    return designs
