"""What a ladder is in the catalogue: vocabularies, rungs, and the order in which they are read."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import Field, model_validator

from components.block import Block
from components.ladder.training import Training
from components.models.bert import Bert
from components.models.blocks import LSTMBlock, NGramBlock, RNNBlock
from components.models.embedding import Glove, OneHot, Word2Vec
from components.models.llama import Decoder
from components.models.translation import Seq2SeqModel, TransformerModel
from components.tokenizer import Tokenizer

Embedding = OneHot | Word2Vec | Glove
LanguageModel = NGramBlock | RNNBlock | LSTMBlock | Decoder | Bert
ModelBlock = Annotated[
    Embedding | LanguageModel | Seq2SeqModel | TransformerModel, Field(discriminator="family")
]
# which stages make a rung of a family; those of one group read, train and measure alike
GROUPS = {
    "embedding": ("one_hot", "word2vec", "glove"),
    "language": ("ngram", "rnn", "lstm", "decoder"),
    "bert": ("bert",),
    "translator": ("seq2seq", "transformer"),
}
# by group, what `metrics.json` has with a score and an interval; `*` is a name out of a file
FIGURES = {
    "embedding": (
        *("analogies.all", "analogies.semantic", "analogies.syntactic", "analogies.sections.*"),
        "wordsim.*",
    ),
    "language": (
        *("perplexity_per_word", "bits_per_byte", "perplexity_named", "ratio"),
        *("senses_left", "senses_right"),
    ),
    "bert": (
        *("masked_accuracy", "senses_left", "senses_right", "pronouns"),
        *("accuracy", "accuracy_untaught"),
    ),
    "translator": ("greedy.bleu", "greedy.chrf", "beam.bleu", "beam.chrf", "alignment"),
}
HELD, OPEN, CONTRADICTED = "held", "not told apart", "contradicted"  # verdicts on expectations
JUDGED = "expectations.json"  # beside the book of a ladder that expects something
UNTRAINED = "embedding"  # by steps: these count epochs, or learn nothing
QUESTIONS = ("analogies", "wordsim")  # files that vectors of words may be measured by


class Reader(Block):
    """What reads data sets: `corpus`, and `also` a second one."""

    corpus: str
    also: str | None = None

    @property
    def corpora(self) -> list[str]:
        return [self.corpus, *([self.also] if self.also else [])]


class Vocabulary(Tokenizer, Reader):
    """A tokenizer of its own, trained on the texts of `corpus`, and of `also` if there is one."""


class Rung(Reader):
    """A model of the ladder.

    corpus: the data set that it reads. also: a second one, for the families that know what to do
    with it. vocabulary: how texts become numbers. files: what it is measured by, beside the test
    split. training: how it is trained; the seed is that of the stage.
    """

    vocabulary: str
    files: dict[str, str] = Field(default_factory=dict)
    model: ModelBlock
    training: Training | None = None

    @model_validator(mode="after")
    def _trained_as_its_family_is(self) -> "Rung":
        if self.group == UNTRAINED and self.training is not None:
            raise ValueError(
                f"training: a model of family {self.model.family} is not trained by steps; drop it"
            )
        if self.group != UNTRAINED and self.training is None:
            raise ValueError(
                f"training is missing: family {self.model.family} needs "
                "'training: {steps: 1000, batch_size: 16, learning_rate: 0.001}'"
            )
        return self

    @property
    def group(self) -> str:
        """What its stages are called."""
        return next(group for group, known in GROUPS.items() if self.model.family in known)

    @property
    def figures(self) -> tuple[str, ...]:
        """Names in its `metrics.json` that an expectation may speak of, or patterns of them."""
        return () if self.model.family == "one_hot" else FIGURES[self.group]

    @property
    def questions(self) -> tuple[str, ...]:
        """The keys that `files` may have."""
        return QUESTIONS if self.model.family in ("word2vec", "glove") else ()


class Expectation(Block):
    """That rung `better` surpasses rung `than` by a figure of their measures: names in
    `metrics.json`, with dots between them where it lies deeper.

    must: a gate, as adapters have one: the run of the ladder fails where it is not held.
    """

    better: str
    than: str
    by: str
    must: bool = False


class Ladder(Block):
    """Rungs in the order in which a reader climbs them. vocabularies: shown beside those that
    the rungs use. expects: what published work found, which the book holds against the figures.
    """

    rungs: list[str] = Field(min_length=1)
    vocabularies: list[str] = Field(default_factory=list)
    expects: list[Expectation] = Field(default_factory=list)


def key(rung: str, seed: int) -> str:
    """What a training of `rung` is called among stages and folders."""
    return f"{rung}-{seed}"


def keys(rungs: Sequence[str], seeds: int) -> Iterator[tuple[str, int]]:
    """Each training of `rungs`: (rung, seed), seeds from 1."""
    return ((rung, seed) for rung in rungs for seed in range(1, seeds + 1))


def read_key(text: str) -> tuple[str, int]:
    """The rung and the seed of `key`'s result.

    Raises:
        KeyError: `text` is none.
    """
    rung, _, seed = text.rpartition("-")
    if not seed.isdigit():
        raise KeyError(text)
    return rung, int(seed)


def settings(rung: Rung) -> dict[str, Any]:
    """What shapes a trained rung, as plain JSON values."""
    aside = {"checkpoint_minutes"}
    trained = {"training": aside, "model": {"classifier": aside}}
    return rung.model_dump(mode="json", include={"model", "training"}, exclude=trained)
