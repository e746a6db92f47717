"""Whether late positions are what a Transformer lacks: `python bench/positions.py WORKSPACE RUNG`.

Short test sentences are translated where training had them, and then from a later position on, by
both sides, with nothing else changed: `--words 6 10` of a sentence, moved by each of `--shifts`.
A model that had learned what positions mean would not mind; one that learned each of them by heart
falls where few sentences of training come that far. `sources_in_training`: their share, of those
that reach the end of a moved sentence of median length. An LSTM has no positions to be moved.

WORKSPACE: with a ladder's artifacts, recipes/ladder by default; RUNG: of family transformer.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from components.catalogue import load
from components.ladder.pairs import Vocabulary, open_vocabulary, spaced
from components.ladder.translating import judged_sentences, scores, translate
from components.lineage import read_jsonl
from components.models import translation
from components.models.transformer import positional_encoding

SENTENCES = 200
CLIMBED = Path("recipes/ladder")


def share(lengths: Sequence[int], least: int) -> float:
    """Of how many the length is at least that."""
    return round(sum(length >= least for length in lengths) / len(lengths), 4)


def moved(folder: Path, vocabulary: Vocabulary, rows: Sequence[dict], shift: int) -> dict:
    """BLEU of `rows`, all of whose positions are `shift` higher on both sides."""
    model, about = translation.load(folder)
    model.positions = positional_encoding(model.longest + shift, model.width)[shift:]
    sources = [row["source"] for row in rows]
    texts, _ = translate(model, vocabulary, sources, about.longest, "beam")
    told = [{**row, "beam": text} for row, text in zip(rows, texts, strict=True)]
    bleu = scores(told, "beam")["bleu"]
    interval = [round(100 * end, 1) for end in bleu["interval"]]
    return {"shift": shift, "bleu": round(100 * bleu["score"], 1), "interval": interval}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("workspace", type=Path, nargs="?", default=CLIMBED)
    options.add_argument("rung", nargs="?", default="captions_transformer")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--words", type=int, nargs=2, default=(6, 10), metavar=("LEAST", "MOST"))
    options.add_argument("--shifts", type=int, nargs="+", default=[0, 4, 8, 12, 16, 24])
    options.add_argument("--json", type=Path, metavar="FILE")
    given = options.parse_args()
    made = given.workspace / "artifacts"
    folder = made / "rungs" / f"{given.rung}-{given.seed}"
    if not folder.is_dir():
        print(f"{folder} is not there yet: 'cd {given.workspace} && kindling run ladder' makes it")
        return
    rung = load(given.workspace, check_files=False).rungs[given.rung]
    if rung.model.family != "transformer":
        options.error(f"{given.rung} is no transformer and has no positions that could be moved")
    vocabulary = open_vocabulary(made / "vocabularies" / rung.vocabulary)
    test, train = (
        list(read_jsonl(made / "datasets" / rung.corpus / f"{split}.jsonl"))
        for split in ("test", "train")
    )
    least, most = given.words
    rows = judged_sentences(test)
    rows = spaced([row for row in rows if least <= row["words"] <= most], SENTENCES)
    rows = [{**row, "whole": True} for row in rows]
    lengths, ours = (
        [len(tokens) + 1 for tokens in vocabulary.encode([row["source"] for row in some])]
        for some in (train, rows)
    )
    found = []
    for shift in given.shifts:
        far = share(lengths, int(statistics.median(ours)) + shift)
        found.append(moved(folder, vocabulary, rows, shift) | {"sources_in_training": far})
        print(found[-1], flush=True)
    if given.json:
        given.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
