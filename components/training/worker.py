"""One of several processes that pretrain together: `python -m components.training.worker JOB`.

Started by `torchrun`; see `launch`. The first of them tells what happens, on standard output.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from components.models.llama import Model
from components.reporter import Silent
from components.training import devices
from components.training.launch import MARK
from components.training.loop import Interrupted
from components.training.pretrain import Pretrain, pretrain

PATHS = ("tokens", "tokenizer", "out", "checkpoints")


def say(kind: str, *values: object) -> None:
    if devices.first():
        print(MARK + json.dumps([kind, *values]), flush=True)


class Saying(Silent):
    """A reporter that says everything to the process that started this one."""

    def params(self, values: Mapping[str, object]) -> None:
        say("params", dict(values))

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        say("metrics", dict(values), step)

    def progress(self, done: float, total: float, note: str = "") -> None:
        say("progress", done, total, note)

    def text(self, name: str, text: str) -> None:
        say("text", name, text)


def end_with_starter() -> None:
    """Kill this process when the writing end of its standard input is closed."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    import torch

    threading.Thread(target=end_with_starter, daemon=True).start()
    given = json.loads(sys.argv[1])
    torch.set_num_threads(given["threads"])
    job = given["job"] | {name: Path(given["job"][name]) for name in PATHS}
    model, block = Model(**job.pop("model")), Pretrain(**job.pop("pretrain"))
    with devices.together():
        try:
            figures = pretrain(model, block, report=Saying(), strategy=given["strategy"], **job)
            say("done", figures)
        except Interrupted as stopped:
            say("stopped", str(stopped))
        except (ValueError, OSError) as error:
            say("failed", str(error))
            raise


if __name__ == "__main__":
    main()
