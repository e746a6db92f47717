"""The page of BERT: a word's vector depends on the words on both sides."""

from pathlib import Path

from components.ladder import senses
from components.ladder.climb import Climb
from components.lineage import read_json, read_jsonl
from components.report.ladder import language_plots, near
from components.report.ladder.measured import cost, count, figures, has, shown
from components.report.ladder.page import Page, Picture, Table

SHOWN = 8  # pronouns
PAIRS = (
    "Hollow points come in pairs of sentences that are the same up to the word, as 'He went to the "
    "bank of the river to fish' and 'He went to the bank to borrow some money': a model that reads "
    "from left to right has one vector for both."
)
LEFT_ALONE = (
    "In the world's sentences the word before tells the meaning, 'on the bank' or 'to the bank', "
    "so models that read from left to right have seen it too: nothing here asks for both sides."
)
ONE_VECTOR = (
    " Word2vec has one vector for the word, the star, wherever it stands: it is shown among words "
    "of both meanings."
)
CHANCE = "Decided on the right, a model that reads from left to right is at 0.5 by construction. "


def page(climb: Climb) -> Page | None:
    """None where the ladder has no such rung."""
    measured = climb.measured("bert")
    if not measured:
        return None
    name, folders = next(iter(measured.items()))
    corpus = climb.rungs[name].corpus
    others = {
        other: found
        for other, found in climb.measured("ngram", "lstm", "decoder").items()
        if climb.rungs[other].corpus == corpus
    }
    single = {n: found for n, found in climb.measured("word2vec").items() if _knows(found[0])}
    planes = {n: found[0] for n, found in {**measured, **single, **others}.items()}
    told = {
        f"{model}, {side}": figures(found, f"senses_{side}")
        for side in senses.SIDES
        for model, found in {**measured, **others}.items()
        if has(found, f"senses_{side}")
    }
    pairs = has(folders, f"senses_{senses.RIGHT}")
    return Page(
        title="BERT",
        what="An encoder of the Transformer learns to tell words that are hidden from it, and so "
        "reads what stands before a word and behind it (Devlin et al. 2019). Its vector of a word "
        "is that of the word in this sentence.",
        finding=_finding(name, folders),
        pictures=[
            Picture(
                "bert_senses",
                language_plots.planes(planes, senses.WORD),
                "Each point is the word in one sentence, in the plane of the two principal "
                "components; above it the share of meanings told apart, by where they are decided. "
                f"{PAIRS if pairs else LEFT_ALONE}{ONE_VECTOR if single else ''}",
            ),
            Picture(
                "bert_told_apart",
                language_plots.scores(
                    told, f"Meanings of '{senses.WORD}' told apart", "share of the sentences"
                ),
                "Each sentence's vector is given the meaning whose other vectors are nearest, "
                f"sentences that begin alike left out. {CHANCE if pairs else ''}Word2vec and GloVe "
                "have one vector for the word: 0.5 by construction, so they were not asked.",
            ),
        ],
        tables=[
            _table(climb),
            _pronouns(folders[0]),
            *near.table(measured, near.OF_TOKENS),
        ],
        cost=f"{cost(climb, climb.of('bert'))} Of pretraining; classifiers come on top.",
        following="An encoder fills gaps and judges texts, but it does not write. What if the "
        "other half of the Transformer, the decoder, is all that is kept?",
    )


def _knows(folder: Path) -> bool:
    """Whether vectors of words have one for the word."""
    return any(p["word"] == senses.WORD for p in read_json(folder / "one_vector.json")["words"])


def _finding(name: str, folders: list[Path]) -> str:
    said = f"{name} tells {shown(figures(folders, 'masked_accuracy'))} of the hidden tokens of "
    said += "the test text."
    if has(folders, "accuracy"):
        taught, untaught = figures(folders, "accuracy"), figures(folders, "accuracy_untaught")
        said += f" Fitted to labels, it is right in {shown(taught)} of the test texts; the same "
        said += f"model without pretraining in {shown(untaught)}."
    return said


def _table(climb: Climb) -> Table:
    rows = []
    columns = ("masked_accuracy", *(f"senses_{side}" for side in senses.SIDES))
    columns += ("pronouns", "accuracy", "accuracy_untaught")
    for name, folders in climb.measured("bert").items():
        cells = [shown(figures(folders, c)) if has(folders, c) else "–" for c in columns]
        rows.append((name, count(folders, "parameters"), *cells))
    head = ("rung", "parameters", "hidden tokens told")
    meanings = [f"meanings, decided on the {side}" for side in senses.SIDES]
    return Table((*head, *meanings, "pronouns", "labels given", "labels, not pretrained"), rows)


def _pronouns(folder: Path) -> Table:
    rows = []
    for record in list(read_jsonl(folder / "pronouns.jsonl"))[:SHOWN]:
        right, wrong = record["candidates"]
        chosen = right if record["correct"] else wrong
        nats = " / ".join(f"{value:.2f}" for value in record["nats"])
        rows.append((record["text"], right, wrong, nats, chosen))
    head = ("sentence", "right", "wrong", "log-probability a token, nats", "chosen")
    return Table(head, rows, "What stands in the gap? The last word decides.")
