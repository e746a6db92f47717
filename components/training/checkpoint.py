"""Checkpoints that survive `kill -9`: written whole or not at all, and never another run's.

A file's name holds its step and the hash of its bytes, so one that is torn or altered is known as
such and the one before it is taken.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.lineage import file_hash

KEPT = 2
HASH_LENGTH = 16
NAME = re.compile(r"step-(\d+)-([0-9a-f]{16})\.pt")


class Checkpoints:
    """The checkpoints of one run in `folder`. identity: the hash of all that shapes the run."""

    def __init__(self, folder: Path, identity: str, say: Callable[[str], None] = print) -> None:
        self.folder = folder
        self.identity = identity
        self._say = say

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write `state` (tensors, numbers, strings, lists, dicts) as of `step`; keep the last two.

        Raises:
            OSError: the disk is full or broken; earlier checkpoints are untouched.
        """
        import torch

        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".writing-{os.getpid()}"
        try:
            with temporary.open("wb") as file:
                torch.save({"identity": self.identity, "step": step, "state": state}, file)
                file.flush()
                os.fsync(file.fileno())
            name = f"step-{step:09d}-{file_hash(temporary)[:HASH_LENGTH]}.pt"
            os.replace(temporary, self.folder / name)
        finally:
            temporary.unlink(missing_ok=True)
        for old in self._files()[KEPT:]:
            old.unlink()
        return self.folder / name

    def latest(self) -> tuple[int, dict[str, Any]] | None:
        """The step and state of the newest sound checkpoint of this run; None without one."""
        import torch

        for path in self._files():
            if file_hash(path)[:HASH_LENGTH] != NAME.fullmatch(path.name)[2]:
                self._say(f"checkpoint {path.name} is torn or altered; taking the one before")
                continue
            held = torch.load(path, weights_only=True)
            if held["identity"] != self.identity:
                continue  # other data, settings or code: this run starts afresh
            return held["step"], held["state"]
        return None

    def _files(self) -> list[Path]:
        """The checkpoints, newest first."""
        found = [p for p in self.folder.glob("step-*.pt") if NAME.fullmatch(p.name)]
        return sorted(found, key=lambda path: path.name, reverse=True)
