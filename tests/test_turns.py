"""The thread on which batchers take their steps."""

import threading

from components.inference.turns import Turns
from tests.serving import paused


class Worker:
    """Has so many parts of work to do, and writes down when it did one."""

    def __init__(self, name: str, parts: int, done: list) -> None:
        self.name, self.parts, self.done = name, parts, done
        self.ended = threading.Event()

    @property
    def busy(self) -> bool:
        return self.parts > 0

    def turn(self) -> None:
        self.parts -= 1
        self.done.append((self.name, threading.current_thread().name))
        if not self.parts:
            self.ended.set()


def test_all_take_turns_on_one_thread_and_what_is_told_comes_between():
    turns, done = Turns(), []
    workers = [Worker(name, 3, done) for name in "ab"]
    with paused(turns):
        for worker in workers:
            turns.join(worker)
    for worker in workers:
        assert worker.ended.wait(20)
    assert done == [("a", "turns"), ("b", "turns")] * 3
    told = threading.Event()
    turns.tell(told.set)
    assert told.wait(20)
    turns.close()


def test_who_has_left_has_no_turn_and_nobody_waits_for_an_ended_thread():
    turns, done = Turns(), []
    worker = Worker("a", 0, done)
    turns.join(worker)
    turns.leave(worker)
    turns.leave(worker)
    worker.parts = 1
    told = threading.Event()
    turns.tell(told.set)
    assert told.wait(20) and not done
    turns.close()
    turns.leave(worker)
