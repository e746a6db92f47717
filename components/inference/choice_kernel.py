"""Tokens out of logits, for all rows of a step at once.

What is kept of a distribution is found without sorting: all filters are thresholds on a weight, and
a threshold is found by halving between bit patterns, which order as positive floats do.
"""

import numpy as np
from numba import carray

from components.inference.compiling import kernel, routine
from components.inference.kernels import exp
from components.inference.threads import (
    MANY,
    MOST_WORDS,
    flags,
    floats,
    ints,
    longs,
    part,
    parts,
)

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
ONE_BITS = np.int32(0x3F800000)  # of 1.0
BANNED = np.float32(-1e30)
NOTHING = np.float32(2e-38)  # what `exp` gives for all that is too small for it


@routine
def uniform(seed, step):
    """Number `step` of the generator `seed`, in [0, 1): SplitMix64 (Steele et al. 2014, figure 16).

    A counter in place of a state: what is drawn depends on nothing but the request's own.
    """
    z = np.uint64(seed) + GOLDEN * (np.uint64(step) + np.uint64(1))
    z = (z ^ (z >> np.uint64(30))) * MIX[0]
    z = (z ^ (z >> np.uint64(27))) * MIX[1]
    z = z ^ (z >> np.uint64(31))
    return np.float64(z >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@routine
def _count(weights, least):
    found = 0
    for i in range(weights.shape[0]):
        found += weights[i] >= least
    return found


@routine
def _mass(weights, least):
    found = np.float64(0.0)
    for i in range(weights.shape[0]):
        found += np.float64(weights[i]) if weights[i] >= least else 0.0
    return found


@routine
def _largest_least(weights, wanted, by_count):
    """The largest threshold at which what is kept still comes to `wanted`, in number or in mass."""
    low, high = np.int32(0), ONE_BITS + np.int32(1)
    while high - low > 1:
        middle = low + (high - low) // np.int32(2)
        least = np.int32(middle).view(np.float32)
        kept = np.float64(_count(weights, least)) if by_count else _mass(weights, least)
        if kept >= wanted:
            low = middle
        else:
            high = middle
    return np.int32(low).view(np.float32)


@routine
def _draw(weights, top_k, top_p, min_p, u):
    """A token by its share of what the filters keep, in transformers' order of them.

    weights: of the likeliest 1. top-k (Fan et al. 2018), top-p (Holtzman et al. 2020) of what that
    keeps, min-p (Nguyen et al. 2024). Tokens as likely as the last that is kept are kept too.
    """
    least = NOTHING
    if 0 < top_k < weights.shape[0]:
        least = max(least, _largest_least(weights, np.float64(top_k), True))
    if top_p < 1.0:
        wanted = top_p * _mass(weights, least)
        least = max(least, _largest_least(weights, wanted, False))
    least = max(least, np.float32(min_p))
    left = u * _mass(weights, least)
    last = 0
    for i in range(weights.shape[0]):
        if weights[i] >= least:
            last = i
            left -= np.float64(weights[i])
            if left < 0.0:
                break
    return last


@routine
def _largest(said):
    largest = np.float32(-np.inf)
    for i in range(said.shape[0]):
        largest = max(largest, said[i])
    return largest


@routine
def _log_total(said, largest):
    """log of the sum of e^logit."""
    total = np.float32(0.0)
    for i in range(said.shape[0]):
        total += exp(said[i] - largest)
    return largest + np.float32(np.log(total))


@routine
def _adjust(said, penalty, seen, masked, mask, out):
    """The logits after the repetition penalty and the mask of a constraint; the largest of them.

    Keskar et al. 2019, section 4.1, with a sign for negative logits as transformers has it.
    """
    largest = np.float32(-np.inf)
    for i in range(said.shape[0]):
        value = said[i]
        if penalty != 1.0 and seen[i]:
            value = value / penalty if value > 0 else value * penalty
        if masked and not (mask[i >> 5] >> np.int32(i & 31)) & 1:
            value = BANNED
        out[i] = value
        largest = max(largest, value)
    return largest


@routine
def _weigh(logits, largest, sharpness, out):
    for i in range(logits.shape[0]):
        weight = exp((logits[i] - largest) * sharpness)
        out[i] = weight if weight > NOTHING else np.float32(0.0)


@routine
def _first(values, wanted):
    for i in range(values.shape[0]):
        if values[i] == wanted:
            return i
    return 0


def choose(words):
    """A token for each row of logits, and its log-probability before anything was changed.

    words: rows, logits, vocabulary, requests, numbers, settings, steps, seen, masks, words of a
    mask, tokens, logprobs, room for a row's weights for each thread. numbers: of a request
    temperature, top_p, min_p, penalty; settings: its seed, top_k, and whether its mask counts;
    seen: the tokens that the penalty is for.
    """
    w = carray(words, (MOST_WORDS,))
    count, size = w[0], w[2]
    logits, requests = floats(w[1], (count, size)), ints(w[3], (count,))
    numbers, settings = floats(w[4], (MANY, 4)), longs(w[5], (MANY, 3))
    steps, seen, masks = ints(w[6], (MANY,)), flags(w[7], (MANY, size)), ints(w[8], (MANY, w[9]))
    tokens, logprobs = ints(w[10], (count,)), floats(w[11], (count,))
    me = part()
    weights = floats(w[12] + me * size * 4, (size,))
    for row in range(me, count, parts()):
        r, said = requests[row], logits[row]
        seed, top_k, masked = settings[r, 0], settings[r, 1], settings[r, 2] != 0
        highest = largest = _largest(said)
        changed = said
        if masked or numbers[r, 3] != 1.0:
            largest = _adjust(said, numbers[r, 3], seen[r], masked, masks[r], weights)
            changed = weights
        if numbers[r, 0] == 0.0:
            chosen = _first(changed, largest)
        else:
            _weigh(changed, largest, np.float32(1.0) / numbers[r, 0], weights)
            u = uniform(seed, steps[r])
            chosen = _draw(weights, top_k, numbers[r, 1], numbers[r, 2], u)
        tokens[row] = chosen
        logprobs[row] = said[chosen] - _log_total(said, highest)


CHOOSE = kernel(choose)
