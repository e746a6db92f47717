"""Stages side by side: each as soon as those it needs are done and the machine has room."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Protocol

from components.catalogue import Catalogue
from flows.places import places
from flows.stages import STAGES


@dataclass(frozen=True)
class Outcome:
    """What came of a stage that was begun.

    ran: its command was; else DVC knew the result, or nothing was stale. changed: its output is
    another than before, be it made or fetched from DVC's cache.
    """

    ran: bool
    changed: bool


class Begun(Protocol):
    """A stage at work, as Prefect's futures are."""

    wrapped_future: Future

    def result(self) -> Outcome: ...


def needs(catalogue: Catalogue, stages: Sequence[str]) -> dict[str, set[str]]:
    """For each stage those whose outputs it reads, in the order of `stages`."""
    makers = {places(catalogue, stage)[0]: stage for stage in stages}
    needed = {}
    for number, stage in enumerate(stages):
        gathers = STAGES[stage.split("@")[0]].gathers
        read = {makers[path] for path in places(catalogue, stage)[1]}
        needed[stage] = set(stages[:number]) if gathers else read
    return needed


def run(
    needed: Mapping[str, set[str]],
    slots: int,
    cost: Callable[[str], int],
    wanted: Callable[[str, set[str]], bool],
    begin: Callable[[str], Begun],
) -> list[str]:
    """Bring stages up to date, at most `slots` at once; return those that really ran.

    needed: for each stage those before it, in an order that respects them. cost: slots that a stage
    takes. wanted: whether there is a reason to begin a stage, given those whose outputs changed.

    Raises:
        Exception: the first that a stage raised, once those at work have ended; none is begun
            after it.
    """
    waiting = list(needed)
    done: set[str] = set()
    ran: list[str] = []
    changed: set[str] = set()
    busy: dict[Future, tuple[str, Begun]] = {}
    failure: Exception | None = None
    while True:
        free = slots - sum(cost(stage) for stage, _ in busy.values())
        for stage in [] if failure else list(waiting):
            if not needed[stage] <= done:
                continue
            if not wanted(stage, changed):
                done.add(stage)
            elif cost(stage) <= free:
                begun = begin(stage)
                busy[begun.wrapped_future] = stage, begun
                free -= cost(stage)
            else:
                continue
            waiting.remove(stage)
        if not busy:
            break
        for future in wait(busy, return_when=FIRST_COMPLETED).done:
            stage, begun = busy.pop(future)
            try:
                outcome = begun.result()
            except Exception as error:  # told at the end: what is at work beside it is not lost
                failure = failure or error
                continue
            done.add(stage)
            ran += [stage] if outcome.ran else []
            changed |= {stage} if outcome.changed else set()
    if failure is not None:
        raise failure
    return ran
