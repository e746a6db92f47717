"""GloVe's inner loop: one step of AdaGrad for each pair of words that meet."""

import numpy as np
from numba import njit


@njit(fastmath=True, cache=True, error_model="numpy")
def descend(rows, columns, values, weights, squares, rate, maximum, power):
    """Step through the entries of X, one after another; return the sum of f(X) (difference)^2, each
    before its own step (Pennington et al. 2014, equation 8).

    rows, columns, values: of X, [entries]. weights: of words and of contexts a vector and, in the
    last place, its bias, [2, words, dimensions + 1]. squares: the sums of squared gradients (Duchi
    et al. 2011), of the same shape; both are changed.
    """
    size, total = weights.shape[2] - 1, 0.0
    for entry in range(values.shape[0]):
        x = values[entry]
        word, context = weights[0, rows[entry]], weights[1, columns[entry]]
        word_sum, context_sum = squares[0, rows[entry]], squares[1, columns[entry]]
        difference = word[size] + context[size] - np.log(x)
        for i in range(size):
            difference += word[i] * context[i]
        weight = np.float32(1.0) if x >= maximum else (x / maximum) ** power
        slope = np.float32(2.0) * weight * difference
        total += weight * difference * difference
        for i in range(size):
            gradient, other = slope * context[i], slope * word[i]
            word_sum[i] += gradient * gradient
            context_sum[i] += other * other
            word[i] -= rate * gradient / np.sqrt(word_sum[i])
            context[i] -= rate * other / np.sqrt(context_sum[i])
        word_sum[size] += slope * slope
        context_sum[size] += slope * slope
        word[size] -= rate * slope / np.sqrt(word_sum[size])
        context[size] -= rate * slope / np.sqrt(context_sum[size])
    return total
