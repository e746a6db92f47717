"""Comparisons: what is tried, what is stopped, what an interval covers, what is advised."""

import os
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

import components.adapters.fitting
from components.adapters.encoding import as_text
from components.adapters.task_data import training_rows
from components.adapters.training import fitting_of
from components.catalogue import CatalogueError, parse
from components.comparison import final, intervals, result, search, serving, space
from components.comparison.block import Comparison
from components.comparison.ground import SEED, Ground
from components.comparison.possible import choices_of
from components.lineage import read_json, read_jsonl, write_json, write_jsonl
from components.prompts import Prompt, choose_shots, with_shots, worked
from components.reporter import Silent
from components.tasks import Task, build_task
from components.training import finder
from components.training.checkpoint import Checkpoints
from components.training.loop import Interrupted
from components.training.schedule import LEAST, learning_rate
from flows import comparing
from tests.conftest import CATALOGUE, ROOT

WAYS = """\
comparisons:
  ways:
    pipeline: quickstart
    task: sentiment
    methods: {methods}
    budget: 4000
    trials: 3
    seeds: 2
"""


def catalogue(methods: str = "[prompt, lora]", more: str = ""):
    return parse(CATALOGUE.format(root=ROOT) + WAYS.format(methods=methods) + more)


def entry(method: str, **settings):
    block = Comparison(pipeline="p", task="t", methods={method: settings, "full": {}})
    return next(block.entries("c")).adapter


def test_a_trial_is_a_function_of_its_number():
    """A search with more trials makes only the new ones."""
    adapter = entry("prompt_tuning")
    choices = space.open_choices(adapter)
    points = [space.point(adapter, choices, number, 0.1) for number in range(16)]
    assert points[:4] == [space.point(adapter, choices, number, 0.1) for number in range(4)]
    rates = np.array([point["learning_rate"] for point in points])
    low, high = space.rates(adapter, 0.1)
    assert (low, high) == pytest.approx((0.01, 3 * adapter.learning_rate))
    assert (rates >= 0.999 * low).all() and (rates <= 1.001 * high).all()
    assert len(set(rates)) == 16
    logs = np.log(rates)  # evenly: each quarter of the range has some
    quarters = ((logs - np.log(low)) / np.log(high / low) * 4).astype(int)
    assert set(quarters) == {0, 1, 2, 3}
    tried = {point["init"] for point in points}
    assert tried == set(choices["init"])


def test_what_the_catalogue_sets_is_not_searched():
    adapter = entry("prompt_tuning", init="random")
    assert space.open_choices(adapter) == {}
    assert all(set(space.point(adapter, {}, n, 0.1)) == {"learning_rate"} for n in range(4))


def test_prompts_are_tried_once_each():
    adapter = entry("prompt")
    choices = {"shots": (0, 1, 2, 4, 8)}
    count = space.count(adapter, choices, 100)
    assert [space.point(adapter, choices, n, None)["shots"] for n in range(count)] == [
        0,
        1,
        2,
        4,
        8,
    ]
    assert space.count(adapter, choices, 3) == 3


def ended(*losses: float, stopped: bool = False) -> dict:
    return {"losses": list(losses), "stopped": stopped}


def judged(losses: list[float], earlier: list[dict]) -> int:
    """How many of the `losses`, one every 20 of 100 steps, a trial is let come to."""
    judge = search._Judge(earlier, 100)
    for number, loss in enumerate(losses):
        try:
            judge.metrics({"validation_loss": loss}, step=20 * (number + 1))
        except search._Pruned:
            break
    return len(judge.losses)


def test_a_trial_is_stopped_by_the_median_rule_of_golovin():
    """Its best loss so far counts, against the median of the others' means so far: 2, 3 and 4."""
    earlier = [ended(*(level for _ in range(5))) for level in (2.0, 3.0, 4.0)]
    assert judged([9.0, 9.0, 3.1, 2.0, 2.0], earlier) == 3, "worse than the median at step 60"
    assert judged([9.0, 9.0, 3.0, 9.0, 9.0], earlier) == 5, "its best is the median itself"
    falling = [ended(8.0, 4.0, 0.3, 0.2, 0.1) for _ in range(3)]
    assert judged([8.0, 5.0, 4.0, 3.0, 0.1], falling) == 5, "their means are 4.1 and 3.125"


def test_no_trial_is_stopped_too_soon_or_at_its_end():
    """A low learning rate is behind at first; at the last evaluation all the work is done."""
    earlier = [ended(1.0, 1.0, 1.0, 1.0, 0.1) for _ in range(3)]
    assert judged([2.0, 2.0, 0.9, 0.9, 0.9], earlier) == 5, "it was judged before half of its steps"
    assert judged([0.9, 0.9, 0.9, 0.9, 0.9], [ended(0.9, 0.9, 0.9, 0.9, 0.0)] * 3) == 5


def test_only_trials_that_came_to_their_end_are_compared_with():
    earlier = [ended(1.0, 1.0, 1.0), ended(1.0, 1.0, 1.0), ended(1.0, 1.0, 1.0, stopped=True)]
    assert judged([9.0, 9.0, 9.0, 9.0, 9.0], earlier) == 5
    assert judged([9.0, 9.0, 9.0, 9.0, 9.0], [*earlier, ended(*[1.0] * 5)]) == 3


def test_the_best_trial_has_the_highest_score_and_then_the_lowest_loss():
    trials = [
        {"score": None, "losses": [0.2], "stopped": True},
        {"score": 0.8, "losses": [0.5], "stopped": False},
        {"score": 0.8, "losses": [0.4], "stopped": False},
        {"score": 0.7, "losses": [0.1], "stopped": False},
    ]
    assert search.best_of(trials) is trials[2]


class Noted(Silent):
    def __init__(self):
        self.figures = []

    def metrics(self, values, step=0):
        self.figures.append(dict(values))


def test_a_trial_that_diverges_is_a_result(folders, tmp_path):
    """Too high a rate would end the whole search."""
    block = Comparison(pipeline="p", task="taste", methods={"full": {}, "prompt": {}})
    ground = Ground(folders["taste"], folders["base"], tmp_path, "origin")
    tried = [next(block.entries("c")), {"learning_rate": 1e20}, 20, ground, []]
    trial = search._trial(*tried)
    assert trial["stopped"] and search.best_of([trial]) is None
    assert trial["score"] is None, "0.0 stood for what was never measured"
    told = Noted()
    search._tell([{**ended(0.5), "score": 0.7, "settings": {}}, trial], 2, False, told)
    assert told.figures == [{"best_score": 0.7}]
    kept = next(tmp_path.glob("*/trial.json")).stat().st_mtime_ns
    assert search._trial(*tried) == trial
    assert next(tmp_path.glob("*/trial.json")).stat().st_mtime_ns == kept, "it was made again"


@pytest.fixture
def shots(folders, tmp_path):
    """The tiny task, with a worked example before every prompt."""
    prompt = Prompt(template="{{text}} it was", answer={"good": " good", "bad": " bad"}, shots=2)
    block = Task(dataset="data", kind="classification", prompt="ask")
    (tmp_path / "shots").mkdir()
    build_task(block, "taste", prompt, "ask", folders["data"], tmp_path / "shots", Silent())
    return tmp_path / "shots"


SOFT = {"method": "prompt_tuning", "init": "random"}
BUDGETED = {
    "lora": {},
    "dpo": {},
    "head": {},
    "soft": SOFT,
    "several": {**SOFT, "ensemble": 4},
}


def steps_of(ground, name, budget=20_000, **more):
    methods = {
        name: {"batch_size": 8, **BUDGETED.get(name, {"method": name}), **more},
        "prompt": {},
    }
    block = Comparison(pipeline="p", task="taste", methods=methods)
    return search.steps_of(next(block.entries("c")), {}, budget, ground)


def test_a_budget_counts_what_is_read(folders, shots):
    """Shots were not counted, an ensemble's members and dpo's two passes not either."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folders["base"])
    plain, with_two = (
        Ground(place, folders["base"], shots, "x") for place in (folders["taste"], shots)
    )
    rows = list(read_jsonl(folders["taste"] / "train.jsonl"))
    read = np.mean([len(as_text(tokenizer, row["prompt"])) + 1 for row in rows])  # <bos> with it
    few = choose_shots(rows, 2, SEED)
    prompts = [with_shots(few, row["prompt"]) for row in rows if worked(row) not in few]
    longer = np.mean([len(as_text(tokenizer, prompt)) + 1 for prompt in prompts])
    assert steps_of(plain, "head") == int(20_000 / (8 * read))
    assert steps_of(with_two, "head") == int(20_000 / (8 * longer)) < steps_of(plain, "head") / 2
    assert steps_of(plain, "several") == pytest.approx(steps_of(plain, "soft") / 4, abs=1)
    assert steps_of(plain, "dpo") <= steps_of(plain, "lora") / 2


def test_a_budget_counts_rows_as_they_are_cut_and_batches_as_they_are_made(folders, tmp_path):
    place = tmp_path / "long"
    shutil.copytree(folders["taste"], place)
    rows = list(read_jsonl(place / "train.jsonl"))
    write_jsonl(place / "train.jsonl", ({**row, "prompt": row["prompt"] * 40} for row in rows))
    ground = Ground(place, folders["base"], tmp_path, "x")
    assert steps_of(ground, "head", budget=96 * 8 * 5) == 5, "a context has 96 tokens"
    assert steps_of(ground, "head", budget=96 * len(rows), batch_size=1000) == 1
    with pytest.raises(ValueError, match=f"less than one step of head, about {96 * 8} tokens"):
        steps_of(ground, "head", budget=96 * 8 - 1)


def test_the_range_test_reads_the_shots_that_a_training_reads(folders, shots, monkeypatch):
    seen = []
    monkeypatch.setattr(
        components.adapters.fitting, "find_rate", lambda fitting, plan: seen.append(fitting.data)
    )
    block = next(Comparison(pipeline="p", task="t", methods=["lora", "full"]).entries("c"))
    search.learning_rate_of(block.block({}, 3, 10), shots, folders["base"])
    rows = list(read_jsonl(shots / "train.jsonl"))
    assert seen[0].shot_texts == choose_shots(rows, 2, 3)


def test_no_prompt_is_trained_on_behind_its_own_answer(folders, shots):
    """The rows were trained on from which the worked examples before every prompt are drawn."""
    block = next(Comparison(pipeline="p", task="t", methods=["lora", "full"]).entries("c"))
    data = fitting_of(block.block({}, 3, 10), shots, folders["base"]).data
    rows = list(read_jsonl(shots / "train.jsonl"))
    assert data.shot_texts == choose_shots(rows, 2, 3)
    assert len(data.rows) == len(rows) - 2
    assert not any(worked(row) in data.prompt(row) for row in data.rows)
    few = block.block({}, 3, 10).model_copy(update={"examples": 2})
    with pytest.raises(ValueError, match=r"2 worked examples .* take all 2 training rows of shots"):
        fitting_of(few, shots, folders["base"])


def test_a_few_examples_are_drawn_by_the_seed_and_are_among_more(folders, tmp_path):
    """The same few rows for every seed: no interval could cover which rows they are."""
    draws = [[training_rows(folders["taste"], n, seed) for n in (4, 8)] for seed in range(3)]
    assert all(few == more[:4] for few, more in draws)
    assert len({str(few) for few, _ in draws}) == 3
    whole = list(read_jsonl(folders["taste"] / "train.jsonl"))
    assert training_rows(folders["taste"], None, 1) == whole
    with pytest.raises(ValueError, match=f"examples 1000: taste has only {len(whole)} training"):
        training_rows(folders["taste"], 1000, 0)
    block = Comparison(pipeline="p", task="t", methods=["lora", "full"], examples=[4])
    trained = fitting_of(
        next(block.entries("c")).block({}, 2, 10), folders["taste"], folders["base"]
    )
    assert trained.rows == draws[2][0]


def test_impossible_choices_are_left_out(folders, tmp_path):
    """An ensemble of three that all begin as the same two labels ended the whole comparison."""
    ground = Ground(folders["taste"], folders["base"], tmp_path, "x")
    several = {"method": "prompt_tuning", "ensemble": 3, "virtual_tokens": 2, "batch_size": 8}
    methods = {"several": several, "prompt": {}}
    block = Comparison(pipeline="p", task="taste", methods=methods, budget=1000, trials=3)
    entry = next(block.entries("c"))
    assert "labels" not in choices_of(entry, ground)["init"]
    assert "random" in choices_of(entry, ground)["init"]
    (tmp_path / "out").mkdir()
    search.search(entry, block, ground, tmp_path / "out", Silent())
    tried = read_json(tmp_path / "out" / "search.json")["trials"]
    assert len(tried) == 3 and all(trial["settings"]["init"] != "labels" for trial in tried)
    alone = {**several, "virtual_tokens": 1}
    block = Comparison(pipeline="p", task="taste", methods={"several": alone, "prompt": {}})
    with pytest.raises(ValueError, match="several: no init is possible of"):
        choices_of(next(block.entries("c")), ground)


def test_as_many_shots_are_offered_as_there_are_rows_and_room_for(folders, tmp_path):
    """Eight were the most, whatever the context; and with fewer rows the comparison ended."""

    def offered(examples) -> tuple:
        block = Comparison(
            pipeline="p", task="taste", methods=["prompt", "lora"], examples=[examples]
        )
        ground = Ground(folders["taste"], folders["base"], tmp_path, "x")
        return choices_of(next(block.entries("c")), ground)["shots"]

    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folders["base"])
    rows = list(read_jsonl(folders["taste"] / "train.jsonl"))
    fits = []
    for count in (1, 2, 4, 8, 16):
        text = with_shots(choose_shots(rows, count, SEED), rows[0]["prompt"])
        fits += [count] * (len(as_text(tokenizer, text + " good")) + 1 <= 96)
    assert offered("all") == (0, *fits) and 0 < len(fits) < 5
    assert offered(3) == (0, 1, 2)


def trial_of(folders, trials):
    block = Comparison(pipeline="p", task="taste", methods={"full": {}, "prompt": {}})
    ground = Ground(folders["taste"], folders["base"], trials, "origin")
    return [next(block.entries("c")), {"learning_rate": 1e-3}, 20, ground, []]


def test_what_an_interrupted_try_took_and_was_told_counts(folders, tmp_path, monkeypatch):
    """Only the last process counted: a training cut short near its end seemed to cost nothing."""
    history = [{"step": 4, "loss": 2.0, "validation_loss": 3.0}, {"step": 5, "loss": 2.0}]

    def interrupted(*_, checkpoints, identity, **__):
        Checkpoints(checkpoints, identity).save(5, {"history": history, "worked": 100.0})
        raise KeyboardInterrupt

    def goes_on(*_, report, **__):
        report.metrics({"validation_loss": 2.5}, step=20)
        return {"trainable_parameters": 1}

    tried = trial_of(folders, tmp_path)
    monkeypatch.setattr(search, "train_adapter", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search._trial(*tried)
    monkeypatch.setattr(search, "train_adapter", goes_on)
    monkeypatch.setattr(search, "validation_score", lambda *_: 0.5)
    trial = search._trial(*tried)
    assert trial["losses"] == [3.0, 2.5] and 100 <= trial["seconds"] < 101

    write_json(tmp_path / "search.json", {"best": {"settings": {}}, "steps": 20, "seconds": 1.0})
    monkeypatch.setattr(final, "evaluate_adapter", lambda *_: {"score": 0.5})
    given = {"checkpoints": tmp_path / "kept", "identity": "me", "report": Silent()}
    task, base = folders["taste"], folders["base"]
    for number, train in enumerate((interrupted, goes_on)):
        out = tmp_path / f"out-{number}"
        out.mkdir()
        monkeypatch.setattr(final, "train_adapter", train)
        with pytest.raises(KeyboardInterrupt) if train is interrupted else nullcontext():
            final.train_final(tried[0], 2, tmp_path, task, base, out, **given)
    assert 100 <= read_json(out / "final.json")["train_seconds"] < 101


def test_searches_that_share_a_trial_make_it_once(folders, tmp_path, monkeypatch):
    """Each deleted the other's folder in the middle of its training."""
    began, made = threading.Event(), []

    def train(*arguments, **_):
        made.append(arguments[4])
        began.set()
        time.sleep(0.3)
        assert made[0].is_dir()
        return {"trainable_parameters": 1}

    monkeypatch.setattr(search, "train_adapter", train)
    monkeypatch.setattr(search, "validation_score", lambda *_: 0.5)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(search._trial, *trial_of(folders, tmp_path))
        began.wait()
        second = search._trial(*trial_of(folders, tmp_path))
    assert first.result() == second and len(made) == 1


def test_the_range_test_rises_by_equal_factors_and_finds_the_lowest_loss():
    rates = [learning_rate(step, 11, 10.0, 0.1, "range") for step in range(11)]
    assert rates[0] == pytest.approx(10 * LEAST) and rates[-1] == pytest.approx(10)
    assert np.allclose(np.diff(np.log(rates)), np.log(rates[1] / rates[0]))
    curve = list(zip(rates, [5, 4.9, 4, 3, 2, 1, 2, 4, 8, 9, 9], strict=True))
    assert finder.lowest(curve) == rates[5]
    assert finder.lowest([(0.1, 1.0), (0.2, 2.0)]) is None and finder.lowest([]) is None


def test_a_range_test_that_finds_nothing_leaves_the_methods_own_rate(
    folders, tmp_path, monkeypatch
):
    """It ended the whole comparison."""
    ground = Ground(folders["taste"], folders["base"], tmp_path, "origin")
    methods = {"lora": {"batch_size": 8}, "prompt": {}}
    block = Comparison(pipeline="p", task="taste", methods=methods, budget=1000, trials=2)
    monkeypatch.setattr(finder, "lowest", lambda curve: None)
    (tmp_path / "out").mkdir()
    entry = next(block.entries("c"))
    search.search(entry, block, ground, tmp_path / "out", Silent())
    found = read_json(tmp_path / "out" / "search.json")
    assert found["range_test_rate"] is None and found["range_test"]
    own = entry.adapter.learning_rate
    low, high = space.rates(entry.adapter, own)
    assert (low, high) == pytest.approx((own / 10, own * 3))
    for trial in found["trials"]:
        assert low <= trial["settings"]["learning_rate"] <= high


def test_a_stopped_range_test_promises_no_checkpoint(folders, tmp_path):
    """It lies in a temporary folder: the same command begins anew."""
    block = Comparison(pipeline="p", task="taste", methods=["lora", "full"])
    block = next(block.entries("c")).block({}, SEED, 10)
    fitting = fitting_of(block, folders["taste"], folders["base"])
    batch = fitting.batch

    def interrupting(step, rows):
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch(step, rows)

    fitting.batch = interrupting
    with pytest.raises(Interrupted, match="of which nothing is kept; the same command begins"):
        fitting.find_rate()


def judged_figures(
    rng: np.random.Generator, apart: float, methods: int = 1, mean: float = 0.8
) -> np.ndarray:
    """Right or wrong on 500 examples, some hard for all, by 3 seeds whose means are `apart`."""
    hard = 0.1 * rng.choice([-1, 1], 500)
    means = mean + apart * rng.standard_normal((methods, 3, 1))
    return (rng.random((methods, 3, 500)) < means + hard).astype(float)


@pytest.mark.parametrize("apart", [0.0, 0.01, 0.03, 0.05])
def test_an_interval_covers_as_often_as_it_says(apart):
    """A bootstrap of three seeds covers 0.91 where they are 0.03 apart, and 0.81 where 0.05."""
    rng = np.random.default_rng(0)
    found = [intervals.interval(judged_figures(rng, apart)[0]) for _ in range(1000)]
    assert np.mean([low <= 0.8 <= high for low, high in found]) >= 0.93


@pytest.mark.parametrize("apart", [0.0, 0.03])
def test_equal_methods_are_seldom_called_less_than_the_best_of_them(apart):
    """The best is chosen by the same data: without a correction every fifth comparison errs."""
    rng, wrong = np.random.default_rng(1), 0
    for _ in range(400):
        best, *others = sorted(judged_figures(rng, apart, methods=5), key=lambda f: -f.mean())
        told = intervals.joint([intervals.difference(each, best) for each in others], 5)
        wrong += any(high < 0 for _, _, high in told)
    assert wrong / 400 <= 0.05


def test_all_members_of_an_ensemble_are_on_disk(folders, tmp_path):
    """The first alone was counted."""
    places = {name: tmp_path / name for name in ("search", "out")}
    for place in places.values():
        place.mkdir()
    write_json(
        places["search"] / "search.json", {"best": {"settings": {}}, "steps": 2, "seconds": 0}
    )
    several = {"method": "prompt_tuning", "ensemble": 3, "init": "random", "batch_size": 8}
    block = Comparison(pipeline="p", task="taste", methods={"several": several, "prompt": {}})
    final.train_final(
        next(block.entries("c")), 1, places["search"], folders["taste"], folders["base"],
        places["out"], checkpoints=tmp_path / "kept", identity="x", report=Silent(),
    )  # fmt: skip
    kept = places["out"] / "adapter" / "adapter_model.safetensors"
    assert read_json(places["out"] / "final.json")["bytes"] == 3 * kept.stat().st_size


def test_an_interval_covers_seeds_and_examples():
    """Over examples alone it would be far too narrow where seeds differ much."""
    rng = np.random.default_rng(0)
    same = np.repeat((rng.random(400) < 0.7)[None], 3, 0).astype(float)
    low, high = intervals.interval(same)
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(0.7 * 0.3 / 400), rel=0.05)
    assert intervals.interval(same[:1]) == pytest.approx((low, high)), "of one seed: examples"
    apart = np.stack([np.full(400, v) for v in (0.5, 0.7, 0.9)])
    low, high = intervals.interval(apart)
    assert 0 < low < 0.45 and 0.9 < high < 1  # 4.3 standard errors of 0.115, kept in the range
    assert intervals.interval(apart[:2])[1] - intervals.interval(apart[:2])[0] > 0.5


def test_an_interval_stays_in_its_range_and_knows_that_all_right_is_not_sure():
    low, high = intervals.interval(np.ones((3, 400)))
    assert 0.99 < low < 0.995 and high == 1
    assert intervals.interval(1 - np.ones((3, 400))) == pytest.approx((1 - high, 1 - low))
    nearly = np.ones((3, 400))
    nearly[:, 0] = 0
    low, high = intervals.interval(nearly)
    assert 0.98 < low < 0.9975 < high < 1
    wide = np.array([[0.001, 0.002], [9.0, 9.5], [0.1, 0.3]])[..., None]
    low, high = intervals.interval(wide, lambda sums: sums[..., 0] / 2, most=np.inf)
    assert low == 0 and high > 9.25, "a perplexity has no upper end"


def test_a_score_of_sums_has_the_interval_of_the_mean_that_it_is():
    rng = np.random.default_rng(2)
    figures = rng.normal(0.5, 0.1, (3, 200)) + rng.normal(0, 0.05, (3, 1))
    sums = np.stack([figures, np.ones_like(figures)], -1)
    other = sums[:, ::-1] * (0.9, 1)
    wanted = intervals.difference(figures, other[..., 0])
    found = intervals.difference(sums, other, lambda each: each[..., 0] / each[..., 1])
    assert tuple(found) == pytest.approx(tuple(wanted))


def test_a_difference_pairs_examples():
    """Two methods that fail on the same hard examples differ surely, if their intervals meet."""
    rng = np.random.default_rng(1)
    hard = rng.random(300) < 0.4
    a = np.repeat((~hard)[None], 3, 0).astype(float)
    b = a.copy()
    b[:, np.flatnonzero(~hard)[:15]] = 0
    mean, low, high = intervals.joint([intervals.difference(b, a)], 2)[0]
    assert mean == pytest.approx(-0.05) and high < 0 and low < mean
    assert (mean - low) == pytest.approx(1.97 * np.sqrt(0.05 * 0.95 / 300), rel=0.01)
    assert intervals.joint([intervals.difference(a, a)], 2) == [(0, 0, 0)]
    with pytest.raises(ValueError, match="300 examples on one side, 200"):
        intervals.difference(a, b[:, :200])


def test_seeds_of_one_side_alone_are_worth_their_own_degrees_of_freedom():
    """A prompt gives the same from every seed; pooled with it, three seeds would count as six."""
    rng = np.random.default_rng(3)
    prompt = np.repeat((rng.random(500) < 0.6)[None], 3, 0).astype(float)
    spread = np.stack([np.full(500, v) for v in (0.5, 0.7, 0.9)])
    found = intervals.difference(prompt, spread)
    assert 2 <= found.freedom < 2.5 and found.error > 0.2 / np.sqrt(3)
    alike = np.roll(prompt, 1, axis=1)
    assert intervals.difference(prompt, alike).freedom == pytest.approx(499)


def test_intervals_of_differences_hold_together():
    """What Holm does not reject has zero in its interval, whatever its own chance is."""

    def far(errors: float) -> intervals.Estimate:
        return intervals.Estimate(-errors, 1.0, 1e9)

    # of three pairs: 0.05/3 is 2.39 standard errors, 0.05/2 is 2.24, 0.05 is 1.96
    assert [g[2] < 0 for g in intervals.joint([far(2.3), far(2.5)], 3)] == [True, True]
    assert [g[2] < 0 for g in intervals.joint([far(2.3), far(2.35)], 3)] == [False, False]
    assert [g[2] < 0 for g in intervals.joint([far(2.2), far(2.5)], 3)] == [False, True]


def row(name, score, gap, seconds, parameters=10):
    return {
        "name": name,
        "pipeline": "p",
        "examples": None,
        "score": score,
        "merit": score,
        "interval": [score - 0.02, score + 0.02],
        "difference_to_best": gap,
        "tied_with_best": gap is None or gap[2] >= 0,
        "train_seconds": seconds,
        "search_seconds": 3 * seconds,
        "trainable_parameters": parameters,
        "bytes": 4 * parameters,
    }


def test_the_advice_is_the_cheapest_that_cannot_be_told_from_the_best():
    full = row("full", 0.90, None, 100.0, 1000)
    lora = row("lora", 0.89, [-0.01, -0.03, 0.01], 60.0, 50)
    soft = row("soft", 0.80, [-0.10, -0.13, -0.07], 20.0, 5)
    advice = result._advice([soft, lora, full])
    assert "ship lora (60.0 s" in advice and "the best, full with 0.900" in advice
    assert advice.endswith(
        "1.7 times as long to train and 20 times as large). All others score surely less."
    )
    alone = result._advice([soft, full])
    assert "ship full" in alone and alone.endswith("All others score surely less.")
    slower = row("ia3", 0.89, [-0.01, -0.03, 0.01], 70.0, 8)
    advice = result._advice([soft, lora, slower, full])
    assert "ship ia3" in advice  # as quick, and smaller
    assert "Cannot be told from the best either: lora (as quick and 6.2 times as large)." in advice


def test_the_advice_names_what_is_cheaper_or_as_cheap_and_not_surely_less():
    """The smaller of two that are as quick was advised, 'and every cheaper one surely less'."""
    lora = row("lora", 0.999, None, 11.3, 59_258)
    full = row("full", 0.998, [-0.001, -0.004, 0.002], 9.1, 1_082_838)
    advice = result._advice([lora, full])
    assert "Cannot be told from it: full (as quick and 18 times as large)." in advice
    assert advice.endswith("None scores surely less than the best.")
    assert "every cheaper" not in advice
    prompt = row("prompt", 0.997, [-0.002, -0.005, 0.001], 0.0, 0)
    advice = result._advice([lora, full, prompt])
    assert "ship prompt" in advice and "11.3 s of training and 237,032 bytes)" in advice
    assert "full (9.1 s of training and 4,331,352 bytes)" in advice


def test_what_is_as_large_but_for_a_row_is_said_to_be():
    """An unfrozen head beside full fine-tuning: '1 times as large'."""
    full = row("full", 0.90, None, 1.0, 36_382)
    head = row("head", 0.89, [-0.01, -0.03, 0.01], 2.0, 36_466)
    advice = result._advice([full, head])
    assert "head (2 times as long to train and as large)" in advice
    assert "2.3 times as large" in result._beside({**head, "bytes": 2.3 * full["bytes"]}, full)


def test_the_advice_ships_nothing_of_which_nothing_can_be_said():
    """One that answers by chance with two of three seeds was advised: it was not surely less."""
    head = row("head", 0.666, None, 53.0, 4_262_656)
    lora = row("lora", 0.521, [-0.146, -0.313, 0.022], 61.0, 157_696)
    lora["interval"] = [0.439, 0.601]
    prompt = row("prompt", 0.499, [-0.167, -0.207, -0.127], 0.0, 0)
    advice = result._advice([prompt, lora, head])
    assert "ship head" in advice and "it scores best" in advice
    assert "Undecided: lora scores 0.521 [0.439, 0.601]" in advice
    assert "Cannot be told from" not in advice
    assert advice.endswith("All others score surely less.")


def test_the_front_holds_what_nothing_beats_for_less():
    rows = [
        row("a", 0.9, None, 3.0, 30),
        row("b", 0.8, None, 1.0, 20),
        row("c", 0.7, None, 2.0, 10),
    ]
    result._add_fronts(rows)
    assert [r["on_front_of_train_seconds"] for r in rows] == [True, True, False]
    assert [r["on_front_of_trainable_parameters"] for r in rows] == [True, True, True]


def test_each_way_of_asking_is_served_and_measured(folders, tmp_path, monkeypatch):
    """All amounts of data showed the speed of the last one's prompt, whatever its shots."""
    task = tmp_path / "tasks/taste"
    task.mkdir(parents=True)
    write_jsonl(task / "test.jsonl", [{"prompt": "a film"}])
    block = Comparison(
        pipeline="p", task="taste", methods=["prompt", "lora"], examples=[10, 100, "all"]
    )
    entries = list(block.entries("c"))
    for each in entries:
        shots = each.examples // 10 if each.name == "prompt" and each.examples else 0
        about = {"task": "taste", "prompt": {"shot_texts": ["shot"] * shots}}
        adapter = tmp_path / "c/finals" / each.final(1) / "adapter"
        adapter.mkdir(parents=True)
        write_json(adapter / "adapter.json", about)
    asked = {}

    def measured(base, adapters, prompts):
        asked.update({key: prompts[key] for key in adapters})
        return {key: {"first_token_ms": len(prompts[key])} for key in adapters}

    monkeypatch.setattr(serving, "measure", measured)
    rows = [{"key": each.key, "pipeline": "p", "name": each.name} for each in entries]
    result._add_serving(tmp_path, tmp_path / "c", entries, rows)
    assert set(asked) == {"c-10-prompt", "c-100-prompt", "c-all-prompt", "c-10-lora"}
    assert [r["first_token_ms"] for r in rows] == [12, 6, 66, 6, 6, 6]


def test_a_prompt_is_read_anew_and_fits_a_short_context(folders):
    """What an engine has read before is there at once; and `ids[-room:]` of no room is all."""
    asked = []

    class Engine:
        def room(self, name):
            return 20

        def encode(self, text):
            return list(range(100))

        def generate(self, name, ids, sampling, caller):
            asked.append((list(ids), sampling.max_tokens, caller.tenant))
            return iter([1, 2][: sampling.max_tokens])

    for most in (32, 1):
        seconds, steps = serving._ask(Engine(), "x", "long", most, f"for {most}")
        assert seconds >= 0 and steps == min(most, 3)
    assert asked == [(list(range(90, 100)), most, f"for {n}") for most, n in ((10, 32), (1, 1))]


def test_a_short_answer_is_not_taken_for_a_quick_one(monkeypatch):
    """A second token that lay ready when the first one was taken counted as 267,246 a second."""
    clock, read, step = [0.0], 0.04, 0.01
    monkeypatch.setattr(serving, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

    class Engine:
        def room(self, name):
            return 100

        def encode(self, text):
            return [1]

        def memory(self, name):
            return 7

        def generate(self, name, ids, sampling, caller):
            made = min(2, sampling.max_tokens)
            clock[0] += read + step * min(made, sampling.max_tokens - 1)  # both, and then the end
            return iter(range(made))

        def close(self):
            pass

    monkeypatch.setattr("components.serving.engines.engine_of", lambda *_: Engine())
    measured = serving.measure(None, {"a": None}, {"a": "text"})
    assert measured == {"a": {"memory_bytes": 7, "first_token_ms": 40, "tokens_per_second": 100}}


def test_what_is_served_is_timed_and_weighed(folders):
    """A head's bytes on disk, which are those of a whole model, were said to be in memory too."""
    names = ("zero_shot", "lora", "head", "full")
    served = {name: folders[name] for name in names}
    measured = serving.measure(folders["base"], served, dict.fromkeys(names, "the film was"))
    assert measured["lora"]["first_token_ms"] > 0 and "tokens_per_second" in measured["lora"]
    memory = {name: measured[name]["memory_bytes"] for name in names}
    parameters = {n: read_json(served[n] / "adapter.json")["trainable_parameters"] for n in names}
    assert memory["zero_shot"] == 0
    assert memory["head"] == 4 * parameters["head"] and set(measured["head"]) == {"memory_bytes"}
    assert memory["full"] > memory["lora"] >= 4 * parameters["lora"]


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ("[lora]", "a comparison needs two methods at least"),
        ("[lora, lara]", "methods.lara: there is no method 'lara'; did you mean 'lora'?"),
        (
            "{lora: {rang: 3}, prompt: {}}",
            "methods.lora.rang: unknown key 'rang'; did you mean 'rank'?",
        ),
        ("{lora: {steps: 3}, prompt: {}}", "methods.lora.steps: a comparison decides on"),
    ],
)
def test_wrong_methods_are_told_before_any_work(methods, said):
    with pytest.raises(CatalogueError) as caught:
        catalogue(methods)
    assert "comparisons.ways" in str(caught.value) and said in str(caught.value)


def test_unknown_names_and_double_keys_are_told():
    text = CATALOGUE.format(root=ROOT) + WAYS.format(methods="[prompt, lora]")
    with pytest.raises(CatalogueError, match="no tasks block is called 'sentimant'"):
        parse(text.replace("task: sentiment\n    methods", "task: sentimant\n    methods"))
    twice = text + (
        "  ways-a:\n    pipeline: quickstart\n    task: sentiment\n"
        "    methods: {b: {method: lora}, prompt: {}}\n"
    )
    twice = twice.replace("[prompt, lora]", "{prompt: {}, a-b: {method: lora}}")
    with pytest.raises(CatalogueError, match="'ways-a-b' is one of comparison 'ways' too"):
        parse(twice)


def test_axes_name_the_entries():
    block = Comparison(
        pipeline=["small", "large"], task="t", methods=["prompt", "lora"], examples=[10, "all"]
    )
    keys = [e.key for e in block.entries("c")]
    assert keys[0] == "c-small-10-prompt" and keys[-1] == "c-large-all-lora" and len(keys) == 8
    with pytest.raises(ValueError, match="got 'some'"):
        Comparison(pipeline="p", task="t", methods=["prompt", "lora"], examples=["some"])


def collected(tmp_path, monkeypatch, price=None):
    """A comparison of two methods on four examples, from folders as their stages leave them."""
    block = Comparison(pipeline="p", task="taste", methods=["prompt", "lora"], seeds=2)
    top = tmp_path / "comparisons" / "c"
    for each in block.entries("c"):
        for seed in (1, 2):
            folder = top / "finals" / each.final(seed)
            folder.mkdir(parents=True)
            right = each.name == "lora" or seed == 1
            rows = [{"id": str(n), "correct": float(right or n > 1)} for n in range(4)]
            write_jsonl(folder / "records.jsonl", rows)
            judged = {"metric": "accuracy", "lower_is_better": False, "split": "test", "n": 4}
            judged |= {"comparison_key": "k", "truncated": seed - 1, "unfinished": 0}
            write_json(folder / "metrics.json", judged)
            told = {"pipeline": "p", "name": each.name, "method": each.name, "examples": None}
            told |= {"settings": {}, "trainable_parameters": 5, "bytes": 20}
            told |= {"base_parameters": 9, "train_seconds": 1800.0, "search_seconds": 3.0}
            told |= {"rows_cut": 5 * seed if each.name == "lora" else 0}
            write_json(folder / "final.json", told)
    made = {
        "tasks/taste/task.json": {"counts": {"train": 7}},
        "controls/taste/metrics.json": {
            "tfidf": {"title": "TF-IDF", "score": 0.75, "interval": [0.5, 0.875]}
        },
        "p/contamination/metrics.json": {
            "taste": {"words": 8, "test": {"rows": 4, "dirty": 3, "share": 0.75}}
        },
    }
    for place, content in made.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        write_json(tmp_path / place, content)
    speed = {"first_token_ms": 1.0, "tokens_per_second": 9.0, "memory_bytes": 1234}
    monkeypatch.setattr(result, "_add_serving", lambda *_: [r.update(speed) for r in _[3]])
    (top / "result").mkdir()
    result.collect("c", block, tmp_path, price, top / "result", Silent())
    return top / "result"


def test_one_training_beside_other_work_does_not_decide_what_is_quick(tmp_path):
    block = Comparison(pipeline="p", task="t", methods=["prompt", "lora"], seeds=3)
    entry = list(block.entries("c"))[1]
    for seed, seconds in zip((1, 2, 3), (10.0, 90.0, 12.0), strict=True):
        folder = tmp_path / "finals" / entry.final(seed)
        folder.mkdir(parents=True)
        told = dict.fromkeys(("pipeline", "name", "method", "examples", "settings"), "x")
        told |= {"trainable_parameters": 5, "bytes": 20, "base_parameters": 9}
        told |= {"train_seconds": seconds, "search_seconds": 3.0, "rows_cut": 0}
        write_json(folder / "final.json", told)
        write_json(folder / "metrics.json", {"truncated": 0, "unfinished": 0})
    row = result._row(tmp_path, entry, np.ones((3, 4)), score=None, price=None)
    assert row["train_seconds"] == 12.0


def test_a_page_says_what_scores_are_to_be_seen_beside(tmp_path, monkeypatch):
    page = " ".join((collected(tmp_path, monkeypatch) / "index.html").read_text().split())
    assert "c-prompt: of 4 prompts 1 were too long" in page
    assert "c-lora was trained on 10 rows cut" in page and "c-prompt was trained" not in page
    assert "TF-IDF 0.750 [0.500, 0.875]." in page
    assert '<td class="n">1,234</td>' in page
    assert "Of 4 test rows 3 have a run of 8 words in common with the corpus" in page
    assert intervals.covered(2) in page and "examples alone" not in page


def test_no_difference_is_larger_than_a_score_can_be(tmp_path, monkeypatch):
    """Of two seeds that scatter an interval reached from -1.5 to 0.7."""
    rows = read_json(collected(tmp_path, monkeypatch) / "comparison.json")["rows"]
    assert rows[0]["difference_to_best"] == [-0.25, -1, 1] and rows[0]["tied_with_best"]


def test_a_task_without_adapters_is_told_from_one_without_evaluations(tmp_path):
    text = CATALOGUE.format(root=ROOT) + WAYS.format(methods="[prompt, lora]")
    block = "  other: {dataset: reviews, kind: classification, prompt: sentiment}\n"
    text = text.replace("tasks:\n", f"tasks:\n{block}")
    with pytest.raises(ValueError, match="no adapter is for task 'other'"):
        comparing.compare(tmp_path, parse(text), "other")


def test_a_price_acts_when_results_are_shown(tmp_path, monkeypatch, capsys):
    """It did so only when everything was collected again, and no cost was printed."""
    monkeypatch.setattr(comparing, "WIDTH", 300)
    kept = collected(tmp_path, monkeypatch, price=0.5)
    assert read_json(kept / "comparison.json")["rows"][0]["cost"] == 0.25
    place = tmp_path / "artifacts" / "comparisons"
    place.parent.mkdir()
    (tmp_path / "comparisons").rename(place)
    text = CATALOGUE.format(root=ROOT) + WAYS.format(methods="[prompt, lora]").replace(
        "ways:", "c:"
    )
    for price, shown in ((None, False), (2.0, True)):
        priced = text.replace("threads: 2", f"threads: 2, price_per_hour: {price or 'null'}")
        told = comparing.compare(tmp_path, parse(priced), "c")
        assert [row["cost"] for row in told["rows"]] == [price and 1.0] * 2
        comparing.show(told)
        assert ("1.00000" in capsys.readouterr().out) == shown


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"pipeline": ["a", "b", "a"]}, "pipeline has 'a' twice"),
        ({"examples": [10, "all", 10]}, "examples has 10 twice"),
        ({"methods": ["lora", "prompt", "lora"]}, "methods has 'lora' twice"),
        ({"examples": [True]}, "got True"),
        ({"seeds": True}, "True is no number"),
    ],
)
def test_what_would_be_one_entry_twice_or_is_no_number_is_refused(wrong, said):
    """Two searches with one name made one folder; `true` was one row."""
    given = {"pipeline": "p", "task": "t", "methods": ["prompt", "lora"], **wrong}
    with pytest.raises(ValueError, match=said):
        Comparison(**given)


def test_a_search_refuses_more_examples_than_there_are_rows(folders, tmp_path):
    ground = Ground(folders["taste"], folders["base"], tmp_path, "x")
    block = Comparison(pipeline="p", task="taste", methods=["prompt", "lora"], examples=[1000])
    for entry in block.entries("c"):
        with pytest.raises(ValueError, match="examples 1000: taste has only 24 training rows"):
            search.search(entry, block, ground, tmp_path, Silent())


def test_a_run_makes_every_stage_of_its_comparisons():
    stages = catalogue().stages_of("quickstart")
    assert stages[-7:] == [
        "search@ways-prompt",
        "search@ways-lora",
        "final@ways-prompt-1",
        "final@ways-prompt-2",
        "final@ways-lora-1",
        "final@ways-lora-2",
        "comparison@ways",
    ]
