"""CBOW, skip-gram and GloVe at other learning rates: `python bench/words.py WORKSPACE`.

These rungs of the ladder's recipe are trained as it says, but for the rate (`--rates`) and
`--epochs`, and answer its questions: shares by kind, with intervals that draw pairs. `--processes`
trainings run side by side, each on one thread. `--json FILE` writes the table.

WORKSPACE: with a ladder's vocabulary and data sets, recipes/ladder by default.
"""

import argparse
import itertools
import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from components.catalogue import load
from components.evaluation import analogies, wordsim
from components.ladder.block import Rung
from components.ladder.embedding import LEARNERS
from components.models.word_vectors import WordVectors
from components.word_text import read_text

CLIMBED = Path("recipes/ladder")
RUNGS = ("cbow", "skip_gram", "glove")
RATES = (0.0125, 0.025, 0.05, 0.1, 0.2)


def learned(workspace: Path, rung: Rung, seed: int) -> WordVectors:
    """The vectors of one training."""
    made = workspace / "artifacts"
    corpora = [made / "datasets" / name for name in (rung.corpus, rung.also) if name]
    text = read_text(corpora, made / "vocabularies" / rung.vocabulary, rung.model.min_count)
    learner = LEARNERS[rung.model.family](rung.model, text, seed)
    for number in range(rung.model.epochs):
        learner.epoch(number)
    return WordVectors(text.words, text.counts, learner.vectors())


def measured(workspace: Path, rung: Rung, seed: int) -> dict[str, dict]:
    """Score and interval, of analogies by kind and of each list of similar words."""
    vectors = learned(workspace, rung, seed)
    questions = analogies.read_questions(workspace / rung.files["analogies"])
    told = analogies.score(analogies.answer(vectors.first(analogies.RESTRICT), questions))
    found = {kind: told[kind] for kind in ("semantic", "syntactic")}
    for file in sorted((workspace / rung.files["wordsim"]).glob("*.txt")):
        found[file.stem] = wordsim.score(wordsim.compare(vectors, wordsim.read_pairs(file)))
    return {name: {key: told[key] for key in ("score", "interval")} for name, told in found.items()}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("workspace", type=Path, nargs="?", default=CLIMBED)
    options.add_argument("--rungs", nargs="+", choices=RUNGS, default=RUNGS)
    options.add_argument("--rates", type=float, nargs="+", default=RATES)
    options.add_argument("--epochs", type=int, nargs="+", help="of the recipe by default")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--processes", type=int, default=2)
    options.add_argument("--json", type=Path, metavar="FILE")
    given = options.parse_args()
    if not (given.workspace / "artifacts" / "vocabularies").is_dir():
        options.error(
            f"{given.workspace}/artifacts has no vocabularies yet: "
            f"'cd {given.workspace} && dvc repro embedding@cbow-1' makes them"
        )
    rungs = load(given.workspace, check_files=False).rungs
    asked, tried = [], []
    for name, rate in itertools.product(given.rungs, given.rates):
        for epochs in given.epochs or [rungs[name].model.epochs]:
            changed = {"learning_rate": rate, "epochs": epochs}
            model = rungs[name].model.model_copy(update=changed)
            asked.append({"rung": name, **changed})
            tried.append(rungs[name].model_copy(update={"model": model}))
    table = []
    with ProcessPoolExecutor(given.processes) as pool:
        count = len(tried)
        found = pool.map(measured, [given.workspace] * count, tried, [given.seed] * count)
        for row, figures in zip(asked, found, strict=True):
            table.append({**row, **figures})
            scores = (
                f"{name} {told['score']:.3f} [{told['interval'][0]:.3f}, {told['interval'][1]:.3f}]"
                for name, told in figures.items()
            )
            print(*row.values(), *scores, sep="  ", flush=True)
    if given.json:
        given.json.write_text(json.dumps(table, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
