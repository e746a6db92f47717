"""The learning rate over a run: linear warm-up, then a cosine (Loshchilov & Hutter 2017)."""

import math

FLOOR = 0.1  # of the peak, at the end: Hoffmann et al. 2022, section 4 (Chinchilla)


def learning_rate(step: int, steps: int, peak: float, warmup: float, floor: float = FLOOR) -> float:
    """The learning rate of update `step` (from 0) of `steps`.

    warmup: the part of the run, 0 to 1, in which it rises to `peak`. floor: the part of `peak` that
    is left at the end.
    """
    rising = max(1, round(warmup * steps))
    if step < rising:
        return peak * (step + 1) / rising
    progress = (step - rising) / max(1, steps - rising)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))
