"""The learning rate over a run."""

import math
from typing import Literal

Schedule = Literal["cosine", "wsd", "inverse_sqrt"]
Range = Literal["range"]
LEAST = 1e-5  # of the peak, where `range` begins
FLOOR = 0.1  # of the peak, at the end: Hoffmann et al. 2022, section 4 (Chinchilla)
DECAY = 0.2  # the last part of a run, in `wsd`: Hägele et al. 2024, section 4


def learning_rate(
    step: int, steps: int, peak: float, warmup: float, name: Schedule | Range = "cosine"
) -> float:
    """The learning rate of update `step` (from 0) of `steps`.

    warmup: the part of the run, 0 to 1, in which it rises to `peak`, linearly. cosine: from there
    down to a tenth of it (Loshchilov & Hutter 2017). wsd: warm-up, stable, decay (Hu et al. 2024,
    section 4), which falls to zero as 1 - sqrt over the last fifth (Hägele et al. 2024): a run on
    its plateau can be prolonged. inverse_sqrt: falls with one over the root of the step (Vaswani et
    al. 2017, section 5.3), so that no end needs to be planned. range: up to `peak` by equal
    factors, for `finder`.
    """
    if name == "range":
        return peak * LEAST ** (1 - step / max(1, steps - 1))
    rising = max(1, round(warmup * steps))
    if step < rising:
        return peak * (step + 1) / rising
    if name == "wsd":
        left = steps - max(rising, round((1 - DECAY) * steps))
        into = step - (steps - left)
        return peak * (1 - math.sqrt(into / left)) if into > 0 else peak
    if name == "inverse_sqrt":
        return peak * math.sqrt(rising / (step + 1))
    progress = (step - rising) / max(1, steps - rising)
    return peak * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * progress)))
