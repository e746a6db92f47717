"""`kindling analogy`: sums of words, by the embeddings that the workspace's ladders trained."""

from pathlib import Path
from typing import Annotated

import typer

from components.catalogue import CatalogueError, load, suggestion
from components.schema import Catalogue

SIGNS = {"+": 1, "-": -1}


def analogy(
    context: typer.Context,
    terms: Annotated[
        list[str], typer.Argument(metavar="WORD [+|- WORD]...", help="Such as: king - man + woman")
    ],
    rung: Annotated[
        str | None, typer.Option(help="Use this rung alone. Default: all that are trained.")
    ] = None,
    seed: Annotated[int, typer.Option(min=1, help="The seed of the training.")] = 1,
    top: Annotated[int, typer.Option(min=1, help="How many words to show.")] = 5,
) -> None:
    """Add and subtract words by trained vectors; show the nearest words with cosines."""
    from components.evaluation.analogies import calculate
    from components.models.word_vectors import open_vectors

    asked = parse(terms)
    for name, folder in trained(context.obj, load(context.obj), rung, seed).items():
        found = calculate(open_vectors(folder), asked, top)
        print(f"{name}:", *(f"  {cosine:.3f}  {word}" for word, cosine in found), sep="\n")


def parse(terms: list[str]) -> list[tuple[int, str]]:
    """(sign, word) of each term: words with + or - between them; one word alone is a sum too.

    Raises:
        ValueError: a word or a sign is missing.
    """
    parts = " ".join(terms).split()
    if parts and parts[0] not in SIGNS:
        parts = ["+", *parts]
    signs, words = parts[::2], parts[1::2]
    wrong = [sign for sign in signs if sign not in SIGNS] + [w for w in words if w in SIGNS]
    if wrong or not words or len(signs) != len(words):
        raise ValueError(
            f"'{' '.join(terms)}' is no sum of words; type 'kindling analogy king - man + woman'"
        )
    return [(SIGNS[sign], word) for sign, word in zip(signs, words, strict=True)]


def trained(where: Path, catalogue: Catalogue, rung: str | None, seed: int) -> dict[str, Path]:
    """The folders of the embeddings that are trained, by rung; of `rung` alone if it is named.

    Raises:
        CatalogueError: there is no such rung, or nothing is trained.
    """
    from components.ladder.block import key

    known = [n for n, r in catalogue.rungs.items() if r.model.family in ("word2vec", "glove")]
    if rung is not None and rung not in known:
        raise CatalogueError(f"no rung '{rung}' learns word vectors{suggestion(rung, known)}")
    names = [rung] if rung else known
    folders = {name: where / "artifacts" / "rungs" / key(name, seed) for name in names}
    found = {name: folder for name, folder in folders.items() if folder.is_dir()}
    if not found:
        stage = f"embedding@{key(names[0], seed)}" if names else "embedding@RUNG-1"
        raise CatalogueError(
            f"no vectors are trained from seed {seed}; run 'dvc repro {stage}', or 'kindling run' "
            f"with one of the ladders: {', '.join(catalogue.ladders) or '(none)'}"
        )
    return found
