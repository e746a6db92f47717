"""One of several processes that pretrain together: `python -m components.training.worker JOB`.

Started by `torchrun`, see `launch`; Ray Train's workers call `work`, see `ray_train`. The first of
them tells what happens; how it ended badly, any does.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from components.models.llama import Model
from components.reporter import Silent
from components.training import devices, machine
from components.training.launch import MARK
from components.training.loop import Interrupted
from components.training.pretrain import Pretrain, pretrain

PATHS = ("tokens", "tokenizer", "out", "checkpoints")
Say = Callable[..., None]  # of a kind of report, and its values


def print_marked(kind: str, *values: object) -> None:
    """On a line of its own, whatever other processes and threads print meanwhile."""
    sys.stdout.write(f"\n{MARK}{json.dumps([kind, *values])}\n")
    sys.stdout.flush()


class Saying(Silent):
    """A reporter that lets the first process say everything to the one that started them."""

    def __init__(self, say: Say) -> None:
        self._say = say

    def tell(self, kind: str, *values: object) -> None:
        if devices.first():
            self._say(kind, *values)

    def params(self, values: Mapping[str, object]) -> None:
        self.tell("params", dict(values))

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        self.tell("metrics", dict(values), step)

    def progress(self, done: float, total: float, note: str = "") -> None:
        self.tell("progress", done, total, note)

    def text(self, name: str, text: str) -> None:
        self.tell("text", name, text)


def work(given: Mapping[str, Any], say: Say, asked: list[int] | None = None) -> bool:
    """Pretrain as one of the processes that are together, and say how it ended; False: stopped.

    given: `job`, the arguments of `pretrain` as JSON values; `threads` and `strategy`. asked: to
    stop; see `train`.

    Raises:
        ValueError, OSError: as `pretrain`, after it was said.
    """
    import torch

    torch.set_num_threads(given["threads"])
    machine.settle_products()
    job = given["job"] | {name: Path(given["job"][name]) for name in PATHS}
    model, block = Model(**job.pop("model")), Pretrain(**job.pop("pretrain"))
    report = Saying(say)
    how = {"strategy": given["strategy"], "asked": asked}
    try:
        report.tell("done", pretrain(model, block, report=report, **how, **job))
    except Interrupted as stopped:
        say("stopped", str(stopped))
        return False
    except (ValueError, OSError) as error:
        say("failed", str(error))
        raise
    return True


def wait_for_starters_end() -> None:
    """Return when the writing end of standard input is closed."""
    while os.read(0, 1):
        pass


def end_with_starter() -> None:
    """Kill this process when the one that started it is gone."""
    wait_for_starters_end()
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    threading.Thread(target=end_with_starter, daemon=True).start()
    with devices.together():
        done = work(json.loads(sys.argv[1]), print_marked)
    if not done:  # else `torchrun` waits five minutes for the one that was told to stop
        sys.exit(1)


if __name__ == "__main__":
    main()
