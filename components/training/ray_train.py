"""Pretraining on a Ray cluster: `python -m components.training.ray_train JOB`, started by `launch`.

Ray Train starts the processes, on whichever machines have room, and joins them in a group; each
then does what a process of `torchrun` does. What they report comes through an actor, and so does
the wish to stop. When one of them dies Ray Train starts all anew, and they go on from the newest
checkpoint, which all machines must see.
"""

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from components.cluster import connection
from components.training import devices, worker
from components.training.group import Group

FAILURES = 3  # so often are the processes started anew, before the stage fails
POLL_SECONDS = 0.25
LAST_SECONDS = 10.0  # to shut down in, when the process that started this one is gone


class Relay:
    """An actor between the processes and the one that started them."""

    def __init__(self) -> None:
        self._said: asyncio.Queue[tuple] = asyncio.Queue()
        self._number = 0
        self._stop = asyncio.Event()  # not a queue: processes that died may still wait for it

    async def say(self, *report: Any) -> None:
        await self._said.put(report)

    async def heard(self) -> list[tuple]:
        """What was said since the last call; at least one thing."""
        found = [await self._said.get()]
        while not self._said.empty():
            found.append(self._said.get_nowait())
        return found

    async def ask_to_stop(self, number: int) -> None:
        """number: of the signal that came."""
        self._number = number
        self._stop.set()

    async def asked(self) -> int:
        await self._stop.wait()
        return self._number


def train(given: Mapping[str, Any]) -> None:
    """What each process does. given: as of `worker.work`, and `relay`."""
    import ray

    relay, asked = given["relay"], []

    def listen() -> None:
        asked.append(ray.get(relay.asked.remote()))

    if devices.first():  # what it hears, the loop agrees on with the others
        threading.Thread(target=listen, daemon=True).start()
    worker.work(given, lambda *said: ray.get(relay.say.remote(*said)), asked)


def _trainer(given: Mapping[str, Any], group: Group, relay: Any) -> Any:
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    accelerators = ray.cluster_resources().get("GPU", 0) >= group.count
    needed = {"CPU": group.threads_each, **({"GPU": 1} if accelerators else {})}
    return TorchTrainer(
        train,
        train_loop_config={**given, "relay": relay},
        scaling_config=ScalingConfig(
            num_workers=group.count,
            use_gpu=accelerators,
            resources_per_worker=needed,
            placement_strategy="SPREAD" if group.nodes > 1 else "PACK",
        ),
        run_config=RunConfig(
            storage_path=str(Path(given["job"]["checkpoints"], "ray")),
            failure_config=FailureConfig(max_failures=FAILURES),
        ),
    )


def _in_thread(work: Any) -> Future:
    """What `work` will have returned or raised; the thread does not keep this process alive."""
    future: Future = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def _follow(relay: Any, fitting: Future, signals: list[int]) -> None:
    """Print what the processes say until they said how it ended, and pass `signals` on to them;
    SIGHUP: nobody listens any more.

    Raises:
        Exception: Ray Train gave up before they said anything of the kind.
    """
    import ray

    waiting = relay.heard.remote()
    kinds: set[str] = set()
    while not kinds & {"done", "stopped", "failed"}:
        ended = fitting.done()  # asked first: what was said before is heard below
        ready, _ = ray.wait([waiting], timeout=POLL_SECONDS)
        if signal.SIGHUP in signals:
            return
        while signals:
            relay.ask_to_stop.remote(signals.pop())
        if ready:
            for said in ray.get(waiting):
                worker.print_marked(*said)
                kinds.add(said[0])
            waiting = relay.heard.remote()
        elif ended:
            fitting.result()
            return


def main() -> None:
    import ray

    given = json.loads(sys.argv[1])
    group = Group(**given.pop("group"))
    ray.init(**connection(group.meeting, group.threads))
    signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):  # after `init`, which sets some of its own
        signal.signal(number, lambda number, _frame: signals.append(number))
    threading.Thread(target=_end_with_starter, args=(signals,), daemon=True).start()
    relay = ray.remote(num_cpus=0)(Relay).remote()
    _wait_for_room(group)
    fitting = _in_thread(_trainer(given, group, relay).fit)
    try:
        _follow(relay, fitting, signals)
    finally:
        ray.shutdown()


def _end_with_starter(signals: list[int]) -> None:
    """Leave in order: a cluster of our own would else linger for a minute."""
    worker.wait_for_starters_end()
    signals.append(signal.SIGHUP)
    time.sleep(LAST_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def _wait_for_room(group: Group) -> None:
    """Say so if the cluster has too few cores now; one that grows on demand will have them."""
    import ray

    found, needed = ray.cluster_resources().get("CPU", 0), group.count * group.threads_each
    if found < needed:
        note = f"waiting for {needed} cores; the cluster has {found:.0f}"
        worker.print_marked("progress", 0, 1, note)


if __name__ == "__main__":
    main()
