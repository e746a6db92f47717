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
) -> dict[str, dict[str, float | None]]:
    """Serve `adapters` of `base` one request at a time; figures by name.

    prompts: what each is asked, its worked examples included; each time as by a caller who was
    never there, so that the engine has to read all of it. Returns "memory_bytes", beside the
    base's, and "first_token_ms" and "tokens_per_second", but not of one that writes no text, as a
    classifier head. The latter is of what an answer takes longer than its first token alone, and
    None where it has no more.
    """
    from components.serving.engine import RequestError
    from components.serving.engines import engine_of

    engine = engine_of(base, adapters)
    first: dict[str, list[float]] = {name: [] for name in adapters}
    whole: dict[str, list[float]] = {name: [] for name in adapters}
    steps = {}
    for name in adapters:
        try:
            steps[name] = _ask(engine, name, prompts[name], TOKENS, "first")[1]  # also warms up
        except RequestError as error:
            if error.code == "model_unavailable":
                raise
    for number in range(ROUNDS):
        for name in steps:
            first[name].append(_ask(engine, name, prompts[name], 1, f"one of {number}")[0])
            whole[name].append(_ask(engine, name, prompts[name], TOKENS, f"all of {number}")[0])
    found: dict[str, dict[str, float | None]] = {
        name: {"memory_bytes": engine.memory(name)} for name in adapters
    }
    engine.close()
    for name, count in steps.items():
        more = min(whole[name]) - min(first[name])  # what disturbs a round only makes it longer
        rate = round((count - 1) / more, 1) if count > 1 and more > 0 else None
        found[name]["first_token_ms"] = round(1000 * statistics.median(first[name]), 2)
        found[name]["tokens_per_second"] = rate
    return found


def _ask(engine: "Engine", name: str, prompt: str, most: int, tenant: str) -> tuple[float, int]:
    """Seconds to the end of an answer of `most` tokens, and how many it had, its end included.

    To the end, for a token may lie ready before the one before it was taken. In a context that is
    short for prompt and answer the prompt keeps half of it at least.
    """
    from components.serving.engine import Caller, Sampling

    room = engine.room(name)
    most = min(most, room // 2)
    started = time.perf_counter()
    ids = cut_prompt(engine.encode(prompt), room - min(TOKENS, room // 2))
    made = sum(1 for _ in engine.generate(name, ids, Sampling(most, 0.0), Caller(tenant)))
    return time.perf_counter() - started, min(made + 1, most)
