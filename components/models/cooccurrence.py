"""How often words stand near each other, each pair weighted by 1 / distance.

Word by word: all occurrences of a word are visited in turn, and their neighbours added up in one
dense row, which stays in the processor's cache. No hash table, nothing to sort but a row, and
memory for the result alone.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit


@dataclass(frozen=True)
class Cooccurrence:
    """The entries of X that are not zero, by row and then column (CSR).

    starts: row i holds entries `starts[i]` to `starts[i + 1]`, [words + 1]. columns: int32,
    [entries]. values: X_ij, float32, [entries].
    """

    starts: np.ndarray
    columns: np.ndarray
    values: np.ndarray


def count_pairs(rows: np.ndarray, offsets: np.ndarray, words: int, window: int) -> Cooccurrence:
    """X of Pennington et al. 2014, section 4.2: a pair of words d apart adds 1 / d, on both sides.

    rows, offsets: a text as `word_text.Text` has it. Pairs do not cross documents.
    """
    order = np.argsort(rows, kind="stable")  # occurrences, word by word
    begins = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=words))])
    lengths = np.diff(offsets)
    first = np.repeat(offsets[:-1], lengths)[order]  # of the occurrence's document
    last = np.repeat(offsets[1:], lengths)[order]
    places = (rows, order, begins, first, last, window)
    starts = np.zeros(words + 1, np.int64)
    np.cumsum(_row_sizes(*places), out=starts[1:])
    columns, values = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float32)
    _fill(*places, starts, columns, values)
    return Cooccurrence(starts, columns, values)


@njit(cache=True)
def _row_sizes(rows, order, begins, first, last, window):
    """How many different words stand near each word."""
    words = begins.shape[0] - 1
    sizes, seen = np.zeros(words, np.int64), np.full(words, -1, np.int64)
    for word in range(words):
        for n in range(begins[word], begins[word + 1]):
            at = order[n]
            for near in range(max(first[n], at - window), min(last[n], at + window + 1)):
                if near != at and seen[rows[near]] != word:
                    seen[rows[near]] = word
                    sizes[word] += 1
    return sizes


@njit(cache=True)
def _fill(rows, order, begins, first, last, window, starts, columns, values):
    """Each word's row: its neighbours in order, and what they add up to."""
    words = begins.shape[0] - 1
    sums, seen = np.zeros(words, np.float64), np.full(words, -1, np.int64)
    for word in range(words):
        end = starts[word]
        for n in range(begins[word], begins[word + 1]):
            at = order[n]
            for near in range(max(first[n], at - window), min(last[n], at + window + 1)):
                if near == at:
                    continue
                other = rows[near]
                if seen[other] != word:
                    seen[other] = word
                    columns[end] = other
                    sums[other] = 0.0
                    end += 1
                sums[other] += 1.0 / abs(near - at)
        columns[starts[word] : end].sort()
        for entry in range(starts[word], end):
            values[entry] = sums[columns[entry]]
