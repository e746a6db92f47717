"""Requests at random, and how many tokens a second they come to."""

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

from _peers import Job

from components.inference.threads import dismiss_crew
from components.serving.batched_engine import BatchedEngine
from components.serving.engine import BASE, Sampling


def workload(count: int, models: Sequence[str], seed: int, longest: int = 128) -> list[Job]:
    """Prompts of 16 to 128 and answers of 8 to `longest` tokens, as they come."""
    chance = random.Random(seed)

    def job(number: int) -> Job:
        ids = [chance.randrange(5, 4096) for _ in range(chance.randint(16, 128))]
        return models[number % len(models)], ids, chance.randint(8, longest)

    return [job(number) for number in range(count)]


def serve(engine: BatchedEngine, jobs: Sequence[Job]) -> int:
    """All jobs in line at once, of which as many run as the engine has rows; tokens made."""
    made = 0
    with ExitStack() as held:
        asked = []
        for name, ids, limit in jobs:
            taken = engine.alone
            if name != BASE:
                taken = held.enter_context(engine.shelf.use(engine.shelf.find(name)))
            asked.append(engine.begin(taken, ids, Sampling(limit, 0.0)))
        for request in asked:
            while (told := request.answers.get()) is not None:
                if isinstance(told, Exception):
                    raise told
                made += 1
    return made


def rates(
    contestants: Mapping[str, Callable[[], int]], rounds: int, forget: Callable[[], None]
) -> dict[str, float]:
    """Tokens a second of each; they take turns, and begin with no prompt in the cache.

    Medians: with three rounds or more, that what the first one sets up does not count.
    """
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    dismiss_crew()  # of this thread, which has made a model or adapters
    for _ in range(rounds):
        for name, run in contestants.items():
            forget()
            started = time.perf_counter()
            tokens = run()
            taken[name].append(tokens / (time.perf_counter() - started))
    return {name: round(statistics.median(found), 1) for name, found in taken.items()}
