"""The metrics that exist, by kind of task, and which way each is better."""

from collections.abc import Mapping

# the default of a kind first
METRICS: Mapping[str, tuple[str, ...]] = {
    "classification": ("accuracy",),
    "generation": ("exact_match", "f1", "bleu", "chrf"),
    "language_modelling": ("bits_per_byte", "word_perplexity"),
}
LOWER_IS_BETTER = frozenset({"bits_per_byte", "word_perplexity"})
NORMALISED = ("exact_match", "f1")  # compare answers after what `normalise` of a task makes equal
