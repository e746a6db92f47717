"""What vocabularies, rungs and ladders say about each other, and about data sets."""

from collections.abc import Iterator
from fnmatch import fnmatchcase

from components.ladder.block import Ladder, Rung
from components.mistakes import Mistake, known, suggestion
from components.schema import Catalogue

OF_WORDS = ("whitespace", "words")  # kinds of tokenizers
OF_THE_WORLD = ("ratio", "alignment")  # figures that need the truth, which generated text knows
OF_REAL_TEXT = ("senses_right",)  # the world's sentences are decided before the word


def rungs(catalogue: Catalogue) -> Iterator[Mistake]:
    """A rung, or a vocabulary, has the data that it reads, and no more."""
    for block in ("vocabularies", "rungs"):
        for name, reader in getattr(catalogue, block).items():
            yield from known(catalogue, (block, name, "corpus"), reader.corpus, "datasets")
            if reader.also is not None:
                yield from known(catalogue, (block, name, "also"), reader.also, "datasets")
            if reader.also == reader.corpus:
                said = f"'{reader.also}' is the corpus already; drop it, or name another data set"
                yield Mistake((block, name, "also"), said)
    for name, rung in catalogue.rungs.items():
        yield from known(catalogue, ("rungs", name, "vocabulary"), rung.vocabulary, "vocabularies")
        yield from _whole_words(catalogue, name, rung)
        yield from _files(name, rung)
        yield from OF_GROUP[rung.group](catalogue, name, rung)


def _whole_words(catalogue: Catalogue, name: str, rung: Rung) -> Iterator[Mistake]:
    """Vectors of words, and the questions about them, need a vocabulary of words."""
    vocabulary = catalogue.vocabularies.get(rung.vocabulary)
    if rung.group == "embedding" and vocabulary and vocabulary.kind not in OF_WORDS:
        said = (
            f"'{rung.vocabulary}' is of kind {vocabulary.kind}, and family {rung.model.family} "
            f"learns whole words; name a vocabulary of kind {' or '.join(OF_WORDS)}"
        )
        yield Mistake(("rungs", name, "vocabulary"), said)


def _files(name: str, rung: Rung) -> Iterator[Mistake]:
    """A file under a name that nobody asks for would be read by nobody."""
    for key in rung.files:
        if key not in rung.questions:
            said = f"family {rung.model.family} is measured by no file called '{key}'"
            yield Mistake(("rungs", name, "files", key), said + suggestion(key, rung.questions))


def _one_text(_catalogue: Catalogue, name: str, rung: Rung) -> Iterator[Mistake]:
    """A second data set is read by embeddings, and by BERT's classifier."""
    if rung.also is not None:
        said = f"family {rung.model.family} reads one data set, the corpus; drop '{rung.also}'"
        yield Mistake(("rungs", name, "also"), said)


def _pairs(catalogue: Catalogue, name: str, rung: Rung) -> Iterator[Mistake]:
    """What translates reads pairs."""
    yield from _one_text(catalogue, name, rung)
    dataset = catalogue.datasets.get(rung.corpus)
    if dataset is not None and dataset.source is None:
        said = f"data set '{rung.corpus}' has no pairs (source and target), which family "
        said += f"{rung.model.family} translates; {_with(catalogue, 'source')}"
        yield Mistake(("rungs", name, "corpus"), said)


def _labels(catalogue: Catalogue, name: str, rung: Rung) -> Iterator[Mistake]:
    """A classifier and the labelled data set that it is fitted to need each other."""
    if rung.model.classifier is not None and rung.also is None:
        said = "a classifier is fitted to a labelled data set, and 'also' names none; drop it, or "
        said += f"add 'also: NAME'; {_with(catalogue, 'label')}"
        yield Mistake(("rungs", name, "model", "classifier"), said)
    if rung.also is None:
        return
    if rung.model.classifier is None:
        said = f"nothing reads '{rung.also}' but a classifier; drop it, or add model.classifier"
        yield Mistake(("rungs", name, "also"), said)
    dataset = catalogue.datasets.get(rung.also)
    if dataset is not None and dataset.label is None:
        said = f"data set '{rung.also}' has no label for a classifier; {_with(catalogue, 'label')}"
        yield Mistake(("rungs", name, "also"), said)


def _with(catalogue: Catalogue, key: str) -> str:
    """Which data sets have what `key` names."""
    found = [name for name, block in catalogue.datasets.items() if getattr(block, key) is not None]
    return f"data sets with '{key}': {', '.join(found) or '(none)'}"


def _any(_catalogue: Catalogue, _name: str, _rung: Rung) -> Iterator[Mistake]:
    """Nothing more to ask of embeddings."""
    return iter(())


OF_GROUP = {"embedding": _any, "language": _one_text, "bert": _labels, "translator": _pairs}


def ladders(catalogue: Catalogue) -> Iterator[Mistake]:
    """Names that ladders use, of blocks and of figures."""
    for name, ladder in catalogue.ladders.items():
        for rung_name in ladder.rungs:
            yield from known(catalogue, ("ladders", name, "rungs"), rung_name, "rungs")
        for vocabulary_name in ladder.vocabularies:
            place = ("ladders", name, "vocabularies")
            yield from known(catalogue, place, vocabulary_name, "vocabularies")
        yield from _expected(catalogue, name, ladder)


def _expected(catalogue: Catalogue, name: str, ladder: Ladder) -> Iterator[Mistake]:
    """Both rungs stand on the ladder and have the figure that they are compared by."""
    for number, expected in enumerate(ladder.expects):
        place = ("ladders", name, "expects", number)
        for part in ("better", "than"):
            rung_name = getattr(expected, part)
            if rung_name not in ladder.rungs:
                said = f"'{rung_name}' is no rung of this ladder"
                yield Mistake((*place, part), said + suggestion(rung_name, ladder.rungs))
                continue
            rung = catalogue.rungs.get(rung_name)
            figures = _figures(catalogue, rung) if rung else ("*",)
            if not any(fnmatchcase(expected.by, figure) for figure in figures):
                said = f"rung '{rung_name}' has no figure '{expected.by}'"
                yield Mistake((*place, "by"), said + suggestion(expected.by, figures))


def _figures(catalogue: Catalogue, rung: Rung) -> list[str]:
    """What is measured of `rung` on the data set that it reads."""
    dataset = catalogue.datasets.get(rung.corpus)
    unknown = OF_REAL_TEXT if dataset and dataset.format == "world" else OF_THE_WORLD
    if getattr(rung.model, "attention", None) == "none":
        unknown = (*unknown, "alignment")
    if getattr(rung.model, "classifier", None) is None:
        unknown = (*unknown, "accuracy", "accuracy_untaught")
    return [figure for figure in rung.figures if figure not in unknown]
