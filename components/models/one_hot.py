"""Integer codes, and one-hot vectors: each word a dimension of its own."""

import math
from collections.abc import Sequence

NUMBER = 4  # bytes of a float32 or an int32


def sizes(words: int, tokens: int) -> dict[str, float]:
    """What a text of `tokens` words takes, in bytes, as one-hot vectors with all their zeros and as
    codes; the share of zeros; and how far apart any two words are.
    """
    return {
        "dimensions": words,
        "tokens": tokens,
        "dense_bytes": tokens * words * NUMBER,
        "code_bytes": tokens * NUMBER,
        "sparsity": 1 - 1 / words,
        "distance": math.sqrt(2),
        "cosine": 0.0,
    }


def nearest_codes(words: Sequence[str], code: int, count: int) -> list[tuple[str, int]]:
    """The words whose codes are nearest to `code`, and how far they are: what integers would say of
    likeness, if they were taken as numbers.
    """
    around = range(max(0, code - count), min(len(words), code + count + 1))
    others = sorted((abs(other - code), other) for other in around if other != code)
    return [(words[other], distance) for distance, other in others[:count]]
