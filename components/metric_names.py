"""The metrics that exist, by kind of task, and which way each figure is better, those of the ladder
(`FIGURES` in components/ladder/block.py) among them.
"""

from collections.abc import Mapping

# the default of a kind first
METRICS: Mapping[str, tuple[str, ...]] = {
    "classification": ("accuracy",),
    "generation": ("exact_match", "f1", "bleu", "chrf"),
    "language_modelling": ("bits_per_byte", "word_perplexity"),
}
LOWER_IS_BETTER = frozenset(
    {
        *("bits_per_byte", "word_perplexity", "perplexity_per_word", "perplexity_named"),
        "ratio",  # of the nats to those of the best possible model
        "alignment",  # an error rate
    }
)
NORMALISED = ("exact_match", "f1")  # compare answers after what `normalise` of a task makes equal
