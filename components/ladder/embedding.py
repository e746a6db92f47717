"""Rungs whose words are vectors: one-hot, word2vec, GloVe."""

from pathlib import Path

from components.ladder.block import Rung
from components.ladder.ground import Ground
from components.lineage import write_json
from components.models.glove import GloveLearner
from components.models.word2vec import Word2VecLearner
from components.models.word_vectors import (
    WordVectors,
    save_vectors,
    save_words,
)
from components.training.checkpoint import Checkpoints
from components.training.epochs import train_epochs
from components.word_text import read_text

LEARNERS = {"word2vec": Word2VecLearner, "glove": GloveLearner}


def train(rung: Rung, ground: Ground, out: Path) -> dict[str, float]:
    """Learn vectors of the words of the rung's data sets; of one-hot ones, list the words.

    Raises:
        ValueError: no word occurs often enough.
    """
    corpora = [ground.corpus, *([ground.also] if ground.also else [])]
    text = read_text(corpora, ground.vocabulary, rung.model.min_count)
    config = {**rung.model.model_dump(mode="json"), "words": len(text.words), "seed": ground.seed}
    figures = {"words": float(len(text.words)), "tokens": float(len(text.rows))}
    if rung.model.family not in LEARNERS:
        save_words(text.words, text.counts, config, out)
        return figures
    learner = LEARNERS[rung.model.family](rung.model, text, ground.seed)
    checkpoints = Checkpoints(ground.checkpoints, ground.identity)
    history = train_epochs(learner, rung.model.epochs, checkpoints, ground.report)
    vectors = WordVectors(text.words, text.counts, learner.vectors())
    save_vectors(vectors, config, out)
    parameters = sum(array.size for name, array in learner.state().items() if name != "squares")
    told = {"history": history, "parameters": parameters, "tokens": len(text.rows)}
    write_json(out / "training.json", told)
    return {**figures, "parameters": float(parameters)}
