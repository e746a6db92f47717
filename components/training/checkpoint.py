"""Checkpoints that survive `kill -9`: written whole or not at all, and never another run's.

A file's name holds its step, the hash of its run's identity, and the hash of its bytes: one that is
torn or altered is known as such, and the one before it is taken; one of another run, whose data,
settings or code were others, neither counts nor is touched.
"""

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.lineage import file_hash, read_json, text_hash, write_json

KEPT = 2  # the newest, and the one before it, should that be torn
HASH_LENGTH = 16
WRITING = ".writing-"  # and the number of the process: not whole yet
NAME = re.compile(r"step-(\d+)-([0-9a-f]{16})-([0-9a-f]{16})\.pt")
WORKED = "training_seconds"  # the figure that tells what `so_far` counts, at a training's end
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Checkpoints:
    """The checkpoints of one run in `folder`. identity: the hash of all that shapes the run."""

    def __init__(self, folder: Path, identity: str, say: Callable[[str], None] = print) -> None:
        self.folder = folder
        self.identity = identity
        self._mark = text_hash(identity)[:HASH_LENGTH]
        self._say = say

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write `state` (tensors, numbers, strings, lists, dicts) as of `step`.

        The newest `KEPT` stay, older ones go, and so does what a killed process was writing.

        Raises:
            OSError: the disk is full or broken; earlier checkpoints are untouched.
        """
        import torch

        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f"{WRITING}{os.getpid()}"
        for left in self.folder.glob(f"{WRITING}*"):  # a stage's lock lets one process write
            left.unlink()
        try:
            with temporary.open("wb") as file:
                torch.save({"step": step, "state": state}, file)
                file.flush()
                os.fsync(file.fileno())
            content = file_hash(temporary)[:HASH_LENGTH]
            path = self.folder / f"step-{step:09d}-{self._mark}-{content}.pt"
            os.replace(temporary, path)
        except (OSError, RuntimeError) as error:
            raise self._failed(step, error) from error
        finally:
            temporary.unlink(missing_ok=True)
        for old in self._files()[KEPT:]:
            old.unlink()
        return path

    def _failed(self, step: int, error: Exception) -> OSError:
        causes = (error, error.__context__)  # torch's writer wraps what the system says
        number = next((n for c in causes if (n := getattr(c, "errno", None))), errno.EIO)
        why = "the disk is full" if number in FULL else str(error)
        kept = self.newest()
        before = f"the one before, {kept.name}, is intact" if kept else "there is none before it"
        return OSError(
            number,
            f"no checkpoint of step {step} could be written to {self.folder}: {why}; {before}. "
            "Free some space ('kindling clean' shows what can go) and run the same command: it "
            "goes on from there",
        )

    def latest(self) -> tuple[int, dict[str, Any]] | None:
        """The step and state of the newest sound checkpoint of this run; None without one."""
        import torch

        for path in self._files():
            if file_hash(path)[:HASH_LENGTH] != NAME.fullmatch(path.name)[3]:
                self._say(f"checkpoint {path.name} is torn or altered; taking the one before")
                continue
            held = torch.load(path, weights_only=True, map_location="cpu")
            return held["step"], held["state"]
        return None

    def so_far(self) -> tuple[list[dict[str, float]], float]:
        """What the run was told up to the checkpoint that it goes on from, and how many seconds it
        has worked for it, over all interrupted tries.
        """
        found = self.latest()
        return (found[1]["history"], found[1]["worked"]) if found else ([], 0.0)

    def newest(self) -> Path | None:
        """The file of this run's newest checkpoint."""
        return next(iter(self._files()), None)

    def remember(self, choices: dict[str, Any]) -> None:
        """Keep what was chosen at run time: a run that is begun again must choose the same."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self._choices, choices)

    def remembered(self) -> dict[str, Any] | None:
        """What `remember` kept for this run; None where it did not."""
        return read_json(self._choices) if self._choices.is_file() else None

    @property
    def _choices(self) -> Path:
        """A file of this run's, beside those of others: whoever goes back to earlier settings goes
        on with what was chosen by them.
        """
        return self.folder / f"choices-{self._mark}.json"

    def _files(self) -> list[Path]:
        """This run's checkpoints, newest first."""
        found = self.folder.glob(f"step-*-{self._mark}-*.pt")
        return sorted((p for p in found if NAME.fullmatch(p.name)), reverse=True)
