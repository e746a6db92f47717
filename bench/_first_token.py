"""The time to a first token behind a template: of the engine alone, and as a client waits."""

import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import httpx
from _asking import workload

sys.path.insert(0, str(Path(__file__).parents[1]))

from components.serving.batched_engine import BatchedEngine
from components.serving.deployment import Deployment
from components.serving.engine import BASE, Caller, Sampling
from components.serving.gateway import Gateway
from components.serving.keys import FILE, Keys
from components.serving.limits import Serving
from components.serving.templates import Template
from tests.serving import listening

HEAD, ASKED = 512, 32  # tokens of a template's fixed head, and of what is asked behind it
WORDS = ("the", "film", "is", "a", "long", "walk", "through", "rain", "and", "light")


class OneTemplate:
    """A template with a long head, as the registry would give it."""

    def __init__(self, head: str) -> None:
        self._only = Template("head", 1, head + "{{ asked }}")

    def names(self) -> Sequence[str]:
        return ["head"]

    def versions(self, name: str) -> Sequence[Template]:
        return [self._only] if name == "head" else []


def of_engine(engine: BatchedEngine, times: int) -> tuple[float, float]:
    """Median seconds to a first token without a cached head of HEAD tokens, and behind one."""
    head = workload(1, [BASE], 5)[0][1] * 40
    chance = random.Random(6)

    def ask(size: int) -> float:
        ids = [*head[:size], *(chance.randrange(5, 4096) for _ in range(ASKED))]
        started = time.perf_counter()
        request = engine.begin(engine.alone, ids, Sampling(1, 0.0), Caller(shared=size))
        request.answers.get()
        return time.perf_counter() - started

    return _medians({"without": lambda: ask(0), "behind": lambda: ask(HEAD)}, times)


def gateway_of(engine: BatchedEngine, workspace: Path, head: str = "") -> Gateway:
    """A gateway to an engine, with one template that begins with `head`."""
    deployment = Deployment.of_folders(engine, "bench")
    return Gateway(deployment, OneTemplate(head), workspace, Serving(), Keys(workspace / FILE))


def over_http(engine: BatchedEngine, workspace: Path, times: int) -> tuple[float, float]:
    """The same as a client of the server sees it, whose texts are tokenised and rendered there."""
    head = _text(engine, HEAD, random.Random(7))
    chance = random.Random(8)
    gateway = gateway_of(engine, workspace, head)

    def ask(client: httpx.Client, templated: bool) -> float:
        asked = _text(engine, ASKED, chance)
        said = {"template": {"id": "head", "variables": {"asked": asked}}}
        body = {"model": BASE, "max_tokens": 4, "temperature": 0, "stream": True}
        body |= said if templated else {"prompt": asked}
        started = time.perf_counter()
        with client.stream("POST", "/v1/completions", json=body) as response:
            response.raise_for_status()
            lines = response.iter_lines()
            next(line for line in lines if line.startswith("data: "))
            first = time.perf_counter() - started
            list(lines)
        return first

    with listening(gateway) as address, httpx.Client(base_url=address) as client:
        turns = {"without": lambda: ask(client, False), "behind": lambda: ask(client, True)}
        return _medians(turns, times)


def _medians(turns: Mapping[str, Callable[[], float]], times: int) -> tuple[float, float]:
    """Median seconds of both; they take turns, and the first of each is for the cache."""
    taken: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(times + 1):
        for name, turn in turns.items():
            taken[name].append(turn())
    without, behind = (statistics.median(found[1:]) for found in taken.values())
    return without, behind


def _text(engine: BatchedEngine, tokens: int, chance: random.Random) -> str:
    """Words at random, as many as come to so many tokens."""
    text = ""
    while len(engine.encode(text)) < tokens:
        text += chance.choice(WORDS) + " "
    return text
