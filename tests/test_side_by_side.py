"""The order in which a flow begins its stages."""

import threading
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from components.catalogue import load
from flows import side_by_side


class Begun:
    def __init__(self, future):
        self.wrapped_future = future

    def result(self):
        return self.wrapped_future.result()


class Recorder:
    """Runs stages in threads; keeps what was at work together."""

    def __init__(self, failing=(), asleep=(), unchanged=(), outlasting=None):
        """outlasting: for a stage the one, begun before it, whose end it waits for."""
        self.pool, self.lock = ThreadPoolExecutor(8), threading.Lock()
        self.failing, self.asleep, self.unchanged = failing, asleep, unchanged
        self.outlasting, self.futures = outlasting or {}, {}
        self.now, self.together, self.ended = set(), [], []

    def begin(self, stage):
        with self.lock:
            self.now.add(stage)
            self.together.append(set(self.now))
        self.futures[stage] = self.pool.submit(self._work, stage)
        return Begun(self.futures[stage])

    def _work(self, stage):
        threading.Event().wait(0.02)
        if stage in self.outlasting:
            wait([self.futures[self.outlasting[stage]]])
        with self.lock:
            self.now.discard(stage)
            self.ended.append(stage)
        if stage in self.failing:
            raise ValueError(f"{stage} is broken")
        return side_by_side.Outcome(stage not in self.asleep, stage not in self.unchanged)


NEEDS = {"a": set(), "b": set(), "big": {"a"}, "c": {"a", "b"}, "d": {"big", "c"}, "e": {"b"}}


def run(recorder, slots=2, wanted=lambda stage, ran: True):
    cost = {"big": slots}
    return side_by_side.run(NEEDS, slots, lambda stage: cost.get(stage, 1), wanted, recorder.begin)


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_each_after_what_it_needs_and_never_too_many(slots):
    recorder = Recorder()
    ran = run(recorder, slots)
    assert sorted(ran) == sorted(NEEDS)
    for stage, before in NEEDS.items():
        assert all(recorder.ended.index(b) < recorder.ended.index(stage) for b in before)
    assert max(map(len, recorder.together)) <= slots
    assert all(together == {"big"} for together in recorder.together if "big" in together)


def test_two_that_are_independent_work_together():
    recorder = Recorder()
    run(recorder)
    assert {"a", "b"} in recorder.together


def test_a_failure_starts_nothing_new_and_loses_nothing_at_work():
    recorder = Recorder(failing=("a",), outlasting={"b": "a"})
    with pytest.raises(ValueError, match="a is broken"):
        run(recorder)
    assert sorted(recorder.ended) == ["a", "b"]


def test_only_what_has_a_reason_is_begun():
    recorder = Recorder(unchanged=("c",))
    ran = run(recorder, wanted=lambda stage, new: stage == "c" or bool(NEEDS[stage] & new))
    assert recorder.ended == ran == ["c"]


def test_what_follows_a_result_from_the_cache_is_begun():
    recorder = Recorder(asleep=("c",))
    ran = run(recorder, wanted=lambda stage, new: stage == "c" or bool(NEEDS[stage] & new))
    assert recorder.ended == ["c", "d"] and ran == ["d"]


def test_tasks_are_rendered_before_a_base_is_trained(tiny_workspace):
    """With one job a mistake in their rows was told behind an hour of pretraining."""
    catalogue = load(tiny_workspace)
    needed = side_by_side.needs(catalogue, catalogue.stages_of("quickstart"))
    recorder = Recorder()
    side_by_side.run(needed, 1, lambda stage: 1, lambda *_: True, recorder.begin)
    read = ["dataset@tales", "dataset@reviews", "task@sentiment", "controls@sentiment"]
    assert recorder.ended == list(needed) and recorder.ended[:4] == read


def test_needs_are_those_of_the_graph(tiny_workspace):
    catalogue = load(tiny_workspace)
    needed = side_by_side.needs(catalogue, catalogue.stages_of("quickstart"))
    assert needed["dataset@tales"] == set()
    assert needed["base@quickstart"] == {"tokens@quickstart", "tokenizer@quickstart"}
    assert needed["evaluation@lora"] == {"adapter@lora", "base@quickstart", "task@sentiment"}
    assert needed["report@quickstart"] == set(needed) - {"report@quickstart"}
