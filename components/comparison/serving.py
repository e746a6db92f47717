"""What an adaptation costs to serve: memory, time to the first token, tokens a second after it."""

import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from components.adapters.encoding import cut_prompt

if TYPE_CHECKING:
    from components.serving.engine import Engine

ROUNDS = 5  # all adaptations take turns in each, so that a busy moment meets all of them
TOKENS = 32  # of an answer


def measure(
    base: Path, adapters: Mapping[str, Path], prompts: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """Serve `adapters` of `base` one request at a time; medians by name.

    prompts: what each is asked, its worked examples included; each time as by a caller who was
    never there, so that the engine has to read all of it. Returns "memory_bytes", beside the
    base's, and "first_token_ms" and "tokens_per_second", but not of one that writes no text, as a
    classifier head.
    """
    from components.serving.engine import RequestError
    from components.serving.engines import engine_of

    engine = engine_of(base, adapters)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in adapters}
    for name in adapters:
        try:
            _ask(engine, name, prompts[name], "first")  # the first answer also warms up
        except RequestError as error:
            if error.code == "model_unavailable":
                raise
            del taken[name]
    for number in range(ROUNDS):
        for name, times in taken.items():
            times.append(_ask(engine, name, prompts[name], f"round {number}"))
    found: dict[str, dict[str, float]] = {
        name: {"memory_bytes": engine.memory(name)} for name in adapters
    }
    engine.close()
    for name, times in taken.items():
        first, each = map(statistics.median, zip(*times, strict=True))
        found[name]["first_token_ms"] = round(1000 * first, 2)
        found[name]["tokens_per_second"] = round(1 / each, 1)
    return found


def _ask(engine: "Engine", name: str, prompt: str, tenant: str) -> tuple[float, float]:
    """Seconds to the first token, and of each one after it.

    In a context that is short for prompt and answer the prompt keeps half of it at least.
    """
    from components.serving.engine import Caller, Sampling

    room = engine.room(name)
    count = min(TOKENS, room // 2)
    started = time.perf_counter()
    ids = cut_prompt(engine.encode(prompt), room - count)
    tokens = engine.generate(name, ids, Sampling(count, 0.0), Caller(tenant))
    if next(tokens, None) is None:  # the text ended at once
        return time.perf_counter() - started, time.perf_counter() - started
    first = time.perf_counter()
    count = sum(1 for _ in tokens)
    last = time.perf_counter()
    return first - started, (last - first) / max(count, 1) if count else first - started
