"""The stages of a ladder: what each calls."""

from functools import partial
from importlib import import_module

from components.ladder.block import Rung, key, keys
from components.ladder.ground import Ground
from components.lineage import write_json
from flows.work import Stage, Work

TORCH = ("torch", "transformers", "tokenizers")


def _vocabulary(work: Work) -> dict[str, float]:
    from components.ladder.vocabulary import make_vocabulary

    block = work.catalogue.vocabularies[work.name]
    corpus, *also = [work.artifact(f"datasets/{name}") for name in block.corpora]
    return make_vocabulary(block, corpus, work.out, work.report, *also)


def _rung(group: str, work: Work) -> dict[str, float]:
    from components.ladder.rates import settled

    rung, ground = _ground(work)
    train = import_module(f"components.ladder.{group}").train
    if rung.training is not None:
        trials = work.workspace / ".kindling" / "trials"
        rung, tried = settled(rung, ground, train, trials, work.origin)
        write_json(work.out / "rates.json", tried)
    return train(rung, ground, work.out)


def _measure(group: str, work: Work) -> dict[str, float]:
    rung, ground = _ground(work)
    trained = work.artifact(f"rungs/{work.name}")
    module = import_module(f"components.ladder.{group}_measures")
    return module.measure(rung, ground, trained, work.out)


def _ground(work: Work) -> tuple[Rung, Ground]:
    name, seed = work.catalogue.rung(work.name)
    rung = work.catalogue.rungs[name]
    return rung, Ground(
        corpus=work.artifact(f"datasets/{rung.corpus}"),
        also=work.artifact(f"datasets/{rung.also}") if rung.also else None,
        vocabulary=work.artifact(f"vocabularies/{rung.vocabulary}"),
        files={name: work.workspace / path for name, path in rung.files.items()},
        seed=seed,
        checkpoints=work.checkpoints,
        identity=work.identity,
        report=work.report,
    )


def _ladder(work: Work) -> dict[str, float]:
    from components.report.ladder.book import write_book

    climb = work.catalogue.climb(work.name, work.artifact(""), _seconds(work), _speeds(work))
    return write_book(climb, work.out, work.report)


def _seconds(work: Work) -> dict[str, float]:
    """How long the trainings of a ladder took, of those that this workspace made itself: each its
    own seconds, in all its tries, not its stage's, which may have waited for another's trials.
    """
    from components.training.checkpoint import WORKED
    from flows import evidence

    catalogue = work.catalogue
    found = {}
    for rung, seed in keys(catalogue.ladders[work.name].rungs, catalogue.seeds):
        name = key(rung, seed)
        result = evidence.result_of(work.workspace, f"{catalogue.rungs[rung].group}@{name}")
        if result.get(WORKED) is not None:
            found[name] = result[WORKED]
    return found


def _speeds(work: Work) -> dict[str, float]:
    """How many bytes a vocabulary cuts in a second, of those that this workspace made itself."""
    from components.tokenizer_measures import SPEED
    from flows import evidence

    names = work.catalogue.vocabularies_of(work.name)
    results = {name: evidence.result_of(work.workspace, f"vocabulary@{name}") for name in names}
    found = {name: result.get("figures", {}).get(SPEED) for name, result in results.items()}
    return {name: speed for name, speed in found.items() if speed is not None}


def _climbed(group: str, libraries: tuple[str, ...], measured: tuple[str, ...] = ()) -> dict:
    """The two stages of a group of rungs. measured: libraries of the measuring alone."""
    read = ("datasets/{corpus}", "datasets/{also}", "vocabularies/{vocabulary}")
    train = Stage(partial(_rung, group), "rungs/{name}", read, libraries, trains=True)
    measure = Stage(
        partial(_measure, group),
        "measures/{name}",
        ("rungs/{name}", *read),
        (*libraries, *measured),
    )
    return {group: train, f"measure_{group}": measure}


STAGES: dict[str, Stage] = {
    "vocabulary": Stage(
        _vocabulary,
        "vocabularies/{name}",
        ("datasets/{corpus}", "datasets/{also}"),
        ("tokenizers",),
    ),
    **_climbed("embedding", ("tokenizers", "gensim", "numba")),
    **_climbed("language", TORCH),
    **_climbed("bert", TORCH),
    **_climbed("translator", ("torch", "tokenizers"), ("sacrebleu",)),
    "ladder": Stage(
        _ladder,
        "{name}/report",
        ("rungs/{each_training}", "measures/{each_training}", "vocabularies/{each_vocabulary}"),
    ),
}
