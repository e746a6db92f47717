"""`kindling analogy`: sums of words, by the embeddings that the workspace's ladders trained."""

import os
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


def _without(recipe: Path) -> str:
    """What to say of a workspace that has no word vectors. recipe: one that has."""
    if not recipe.is_dir():  # as beside an installed package
        return "this workspace has no ladder with a rung of family word2vec or glove"
    place = os.path.relpath(recipe)
    return (
        f"this workspace has no ladder; 'kindling -C {place} run ladder' makes one, and 'kindling "
        f"-C {place} analogy ...' asks it"
    )


def trained(where: Path, catalogue: Catalogue, rung: str | None, seed: int) -> dict[str, Path]:
    """The folders of the embeddings that are trained, by rung; of `rung` alone if it is named.

    Raises:
        CatalogueError: there is no such rung, or nothing is trained.
    """
    from components.ladder.block import key

    known = [n for n, r in catalogue.rungs.items() if r.model.family in ("word2vec", "glove")]
    if not known:
        raise CatalogueError(_without(where / catalogue.root / "recipes" / "ladder_world"))
    if rung is not None and rung not in known:
        raise CatalogueError(f"no rung '{rung}' learns word vectors{suggestion(rung, known)}")
    names = [rung] if rung else known
    folders = {name: where / "artifacts" / "rungs" / key(name, seed) for name in names}
    found = {name: folder for name, folder in folders.items() if folder.is_dir()}
    if not found:
        stage = f"embedding@{key(names[0], seed)}"
        raise CatalogueError(
            f"no vectors are trained from seed {seed}; run 'dvc repro {stage}', or 'kindling run' "
            f"with one of the ladders: {', '.join(catalogue.ladders) or '(none)'}"
        )
    return found
