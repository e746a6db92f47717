"""The world's promises: exact probabilities, gold labels that are true, splits that hold out."""

import math
import re
import subprocess
import sys
from collections import Counter

import pytest

from components import world
from components import world_words as words

KIND_SIZE = 3000


class Replay(world.Draw):
    """Takes the choices of a given path and notes where it could have gone instead."""

    def __init__(self, path):
        self.path, self.taken, self.logprob = path, [], 0.0

    def _choose(self, options, weights):
        place = self.path[len(self.taken)] if len(self.taken) < len(self.path) else 0
        self.taken.append((place, len(options)))
        self.logprob += math.log(weights[place])
        return options[place]

    def pick(self, options):
        return self._choose(options, [1 / len(options)] * len(options))

    def weigh(self, options, weights):
        return self._choose(options, weights)


def enumerate_kind(kind):
    """Every derivation of a kind: (text, probability)."""
    path = []
    while True:
        draw = Replay(path)
        row = world.document(draw, (kind,))
        yield row["text"], math.exp(draw.logprob)
        taken = draw.taken
        while taken and taken[-1][0] == taken[-1][1] - 1:
            taken.pop()
        if not taken:
            return
        path = [place for place, _ in taken[:-1]] + [taken[-1][0] + 1]


FEWER = {  # words of each table, so that all of a kind can be enumerated
    **dict.fromkeys(("BEINGS", "NOUNS", "ADJECTIVES", "HE", "SHE"), 4),
    **dict.fromkeys(("PRAISE", "BLAME", "ASPECTS", "FEW", "MANY", "OPENINGS"), 2),
    **dict.fromkeys(("GENRES", "MAKERS", "JUDGES", "MERITS", "FLAWS"), 1),
}


@pytest.mark.parametrize("kind", ["pronoun", "translation", "review", "bank", "comparative"])
def test_probabilities_add_up_and_no_text_has_two_derivations(kind, monkeypatch):
    """An ambiguous grammar would make `logprob` too small: two derivations, one text."""
    for table, size in FEWER.items():
        monkeypatch.setattr(words, table, getattr(words, table)[:size])
    total, texts = 0.0, set()
    count = 0
    for text, probability in enumerate_kind(kind):
        count += 1
        total += probability
        texts.add(text)
    assert total == pytest.approx(1, abs=1e-9)
    assert len(texts) == count


def test_the_stated_probability_is_that_of_the_choices():
    row = next(world.documents(1, 0, ["translation"]))
    expected = 1 / (12 * 6 * 11 * 12 * 12)
    assert row["logprob"] == pytest.approx(math.log(expected))


def test_frequencies_follow_the_probabilities():
    rows = list(world.documents(20_000, 5, ["review"]))
    verdicts = Counter(row["text"].split()[-1] for row in rows if row["text"] != row["review"])
    share = sum(verdicts.values()) / len(rows)
    assert share == pytest.approx(world.VERDICT, abs=0.02)
    assert verdicts["good."] / (verdicts["good."] + verdicts["fine."]) == pytest.approx(
        7 / 8, abs=0.02
    )


def test_the_same_seed_gives_the_same_documents_in_another_process():
    code = "from components.world import documents; print([r['text'] for r in documents(50, 3)])"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(outputs) == 1


def sentences(row):
    """Its sentences, the verdicts left out: they are few and stand in every split."""
    found = re.findall(r"[^.]+\.", row["text"])
    return {s.strip() for s in found if not s.strip().startswith("This film is ")}


def test_splits_share_no_sentence_and_hold_out_combinations():
    rows = list(world.documents(KIND_SIZE * len(world.KINDS), 1))
    by_split = {name: [] for name in ("train", "validation", "test")}
    for row in rows:
        by_split[world.split_of(row)].append(row)
    shares = {name: len(part) / len(rows) for name, part in by_split.items()}
    assert shares["train"] == pytest.approx(0.9, abs=0.02)
    for held_out in ("validation", "test"):
        known = set().union(*map(sentences, by_split["train"]))
        new = set().union(*map(sentences, by_split[held_out]))
        assert not known & new
        pairs = {(r["kind"], r["combination"]) for r in by_split["train"]}
        assert not pairs & {(r["kind"], r["combination"]) for r in by_split[held_out]}


def judged(review: str) -> str:
    """The label by an independent reading of the surface: the main clause, turned by negation."""
    body = review.partition(" by ")[2].rstrip(".").split(" ", 1)[1]
    if body.startswith("although "):
        main = body.partition(", ")[2]
    elif ", although " in body:
        main = body.partition(", although ")[0]
    elif ", but " in body:
        main = body.partition(", but ")[2]
    else:  # of clauses that agree, the last
        main = re.split(r",? and (?=the |most |many |all |few |no |hardly )", body)[-1]
    spoken = main.split()
    praised = [word in (*words.PRAISE, *words.MERITS) for word in spoken]
    blamed = [word in (*words.BLAME, *words.FLAWS) for word in spoken]
    assert any(praised) != any(blamed), main
    turned = "not" in spoken and "without" not in spoken
    turned = turned or spoken[0] in ("few", "no", "hardly")
    return "positive" if any(praised) != turned else "negative"


def test_words_alone_do_not_tell_a_review():
    """Counting words and pairs of words falls short: what is said turns on the main clause."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    parts = {"train": [], "test": [], "validation": []}
    for row in world.documents(8000, 2, ["review"]):
        parts[world.split_of(row)].append(row)
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=10))
    texts, labels = ([[row[key] for row in parts[p]] for p in parts] for key in ("review", "label"))
    model.fit(texts[0], labels[0])
    assert 0.6 < model.score(texts[1], labels[1]) < 0.9


def test_review_labels_are_what_the_text_says():
    for row in world.documents(KIND_SIZE, 2, ["review"]):
        assert judged(row["review"]) == row["label"], row["review"]
        if row["text"] != row["review"]:
            good = row["text"].split()[-1].strip(".") in world.VERDICTS[1]
            assert good == (row["label"] == "positive")


def test_arithmetic_is_right():
    for row in world.documents(500, 2, ["arithmetic"]):
        first, second = map(int, re.findall(r"(?:has|finds|loses) (\d+)", row["text"])[:2])
        assert int(row["answer"]) == (first + second if "finds" in row["text"] else first - second)
        assert (" = " in row["text"]) == row["worked"]


def test_alignments_join_words_that_translate_each_other():
    dictionary = dict((*words.NOUNS, *words.ADJECTIVES, *words.VERBS))
    for row in world.documents(500, 2, ["translation"]):
        source, target = row["source"].split(), row["target"].split()
        for i, j in row["alignment"]:
            assert dictionary[source[i]] == target[j]


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="no kind 'poem'; its kinds: family"):
        next(world.documents(1, 0, ["poem"]))


class Trigrams:
    """A word trigram model, interpolated as Witten & Bell (1991): what counting can do."""

    def __init__(self, texts):
        self.after = [{}, {}, {}]  # by length of the context: context -> counts of what follows
        for text in texts:
            for context, word in self._steps(text):
                for length, table in enumerate(self.after):
                    table.setdefault(context[2 - length :], Counter())[word] += 1
        self.types = len(self.after[0][()])

    @staticmethod
    def _steps(text):
        found = ["", "", *re.findall(r"\w+|[^\w\s]", text), "end"]
        return [((found[n - 2], found[n - 1]), found[n]) for n in range(2, len(found))]

    def nats(self, text):
        total = 0.0
        for context, word in self._steps(text):
            probability = 1 / (self.types + 1)
            for length, table in enumerate(self.after):
                counts = table.get(context[2 - length :])
                if counts:
                    seen, kinds = counts.total(), len(counts)
                    probability = (counts[word] + kinds * probability) / (seen + kinds)
            total -= math.log(probability)
        return total


def test_trigrams_are_far_from_the_limit():
    """A grammar that counting of neighbours masters would teach a model nothing of language."""
    rows = list(world.documents(20_000, 1))
    model = Trigrams(row["text"] for row in rows if world.split_of(row) == "train")
    test = [row for row in rows if world.split_of(row) == "test"]
    ratio = sum(model.nats(row["text"]) for row in test) / -sum(row["logprob"] for row in test)
    assert ratio > 1.4


def test_almost_no_document_stands_twice():
    """What is dropped as a duplicate makes the corpus differ from the grammar."""
    texts = [row["text"] for row in world.documents(40_000, 1)]
    assert len(set(texts)) / len(texts) > 0.99
