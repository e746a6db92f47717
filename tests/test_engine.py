"""kindling's own engine: mixes of adapters, what must not answer, versions that move."""

import asyncio
import json
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.adapters import load_adapter
from components.evaluation import evaluate_adapter
from components.evaluation.classification import classify
from components.inference import adapter as adapters
from components.inference.batcher import Limits
from components.inference.checkpoint import config_of, shape_of
from components.inference.store import Store
from components.lineage import read_json, write_json
from components.reporter import Silent
from components.serving.batched_engine import BatchedEngine
from components.serving.deployment import Deployment
from components.serving.engine import BASE, Caller, RequestError, Sampling
from components.serving.gone import Gone, Left
from components.serving.information import entries
from components.serving.line import Line
from components.serving.scoring import Served
from components.serving.transformers_engine import TransformersEngine
from components.serving.wording import require_labels
from tests import mixes
from tests.tiny_models import ADAPTERS, signed

GREEDY = Sampling(8, 0.0)


@pytest.fixture(scope="module")
def kinds(folders, tmp_path_factory):
    """Folders of a base and of adapters of every kind."""
    return mixes.more_folders(folders, tmp_path_factory.mktemp("kinds"))


@pytest.fixture
def engine_of():
    """Makes engines that are closed after the test."""
    made = []

    def make(folders, names, **given) -> BatchedEngine:
        adapters = {name: folders[name] for name in names}
        made.append(BatchedEngine(folders["base"], adapters, **given))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


def said(engine: BatchedEngine, model: str, prompt: str = "the film", **caller) -> list[float]:
    """The log-probabilities of greedy tokens: models that learned little often say the same."""
    stream = engine.generate(model, engine.encode(prompt), GREEDY, Caller(**caller))
    return pytest.approx([token.logprob for token in stream], abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_any_mix_says_what_each_says_alone(kinds, seed):
    """In any order of arrival, after eviction of blocks and adapters, whoever leaves early."""
    told = mixes.check(kinds, 60, seed)
    assert told["blocks_evicted"] and told["adapters_evicted"]


@pytest.mark.parametrize("name", [*ADAPTERS, *mixes.MORE])
def test_labels_have_the_probabilities_of_transformers(kinds, engine_of, name):
    engine = engine_of(kinds, [name])
    texts = ["the film was a .", "the plot was b .", "x" * 200]
    found = engine.classify(name, texts)
    model = load_adapter(kinds["base"], kinds[name])
    expected = classify(model, kinds["base"], kinds[name], texts)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)


def test_the_members_of_an_ensemble_stand_in_one_batch(kinds, engine_of, monkeypatch):
    """They were read one after the other: the base was asked three times for one vote."""
    engine, asked = engine_of(kinds, ["ensemble", "soft_prompt"]), []
    engine.warm()
    received = Served.received
    monkeypatch.setattr(
        Served, "received", lambda self, each: asked.append(len(each)) or received(self, each)
    )
    for name in ("soft_prompt", "ensemble"):
        engine.classify(name, ["the film was a .", "the plot was b ."])
    alone, together = asked
    assert together == 3 * alone


def test_a_soft_prompt_is_computed_once(kinds, engine_of):
    engine = engine_of(kinds, ["soft_prompt", "long_prefix"])
    pool = engine.batcher.pool
    for name in ("soft_prompt", "long_prefix"):
        said(engine, name, tenant="a")
        before = pool.misses
        said(engine, name, "g", tenant="b")
        assert pool.misses - before == len(engine.encode("g"))


def test_another_version_of_an_adapter_meets_none_of_the_olds_blocks(kinds, engine_of, tmp_path):
    """vllm#42125: an adapter reloaded under its name hit the old one's prefix cache."""
    other = tmp_path / "lora"
    shutil.copytree(kinds["stabilised"], other)
    prompt = mixes.PROMPTS[3]
    engine = engine_of(kinds, ["lora", "stabilised"])
    old, new = said(engine, "lora", prompt), said(engine, "stabilised", prompt)
    assert old.expected != new
    engine.remove("lora")
    engine.add("lora", other)
    assert said(engine, "lora", prompt).expected == new


def test_running_requests_end_on_the_adapter_they_began_with(kinds, engine_of):
    engine = engine_of(kinds, ["lora"])
    old = said(engine, "lora")
    running = engine.generate("lora", engine.encode("the film"), GREEDY)
    begun = [next(running).logprob]
    with pytest.raises(ValueError, match="'lora' is served already"):
        engine.add("lora", kinds["dora"])
    engine.remove("lora")
    engine.add("lora", kinds["dora"])
    new = said(engine, "lora")
    assert [*begun, *(token.logprob for token in running)] == old
    assert old.expected != new
    engine.remove("lora")
    with pytest.raises(RequestError, match="'lora' is served no more") as gone:
        said(engine, "lora")
    assert gone.value.code == "model_not_found" and list(engine.models()) == [BASE]


def test_adapters_share_a_budget_of_memory(kinds, engine_of):
    names = ["lora", "dora", "stabilised", "ia3"]
    engine = engine_of(kinds, names, adapter_bytes=30_000)
    first = {name: said(engine, name) for name in names}
    assert {name: said(engine, name).expected for name in names} == first
    assert engine.shelf.evictions and sum(engine.shelf._loaded.values()) <= 30_000
    with pytest.raises(RequestError, match="all adapters may have 100"):
        said(engine_of(kinds, ["lora"], adapter_bytes=100), "lora")


def test_memory_is_what_an_adapter_takes_beside_the_base(kinds, engine_of):
    engine = engine_of(kinds, ["zero_shot", "lora", "head", "full"])
    taken = [engine.memory(name) for name in ("zero_shot", "head", "lora", "full")]
    assert taken == sorted(set(taken)) and taken[0] == 0
    with pytest.raises(RequestError, match="'gone' is served no more"):
        engine.memory("gone")
    copies = TransformersEngine(kinds["base"], {"lora": kinds["lora"]})
    assert copies.memory("lora") > (kinds["base"] / "model.safetensors").stat().st_size


@pytest.mark.parametrize("device", [None, torch.device("cpu")], ids=["kernels", "tensors"])
def test_the_pool_of_a_decoder_of_its_own_counts_where_it_takes_memory(folders, engine_of, device):
    """On a GPU each took `pool_bytes` beside the budget."""
    engine = engine_of(folders, ["full"], limits=Limits(pool_bytes=1 << 20), device=device)
    with engine._using("full") as (version, held):
        pool = held.batcher.pool.store._held.nbytes
        assert held.batcher is not engine.batcher and pool > 1 << 19
        counted = held.adapter.bytes + (0 if device is None else pool)
        assert engine.shelf.bytes_of(version) == counted


def test_decoders_of_an_engine_take_turns_on_one_thread(kinds, engine_of):
    """Two crews of threads would make each other slow."""
    engine = engine_of(kinds, ["full"])
    engine.warm()
    own = engine.shelf.find("full").held.batcher
    assert own is not engine.batcher and own.turns is engine.batcher.turns


def test_choices_hold_an_answer_to_one_of_them(kinds, engine_of):
    engine = engine_of(kinds, ["lora"])
    for choices in (("good", "bad"), (" a plot", " a film", 'say "x"')):
        for seed in range(3):
            how = Sampling(30, 1.0, seed=seed, choices=choices)
            tokens = [t.id for t in engine.generate("lora", engine.encode("the film"), how)]
            assert engine.texts.tokenizer.decode(tokens) in choices


def test_a_schema_holds_an_answer_to_json_of_it(kinds, engine_of):
    engine = engine_of(kinds, [])
    schema = {
        "type": "object",
        "properties": {"label": {"enum": ["good", "bad"]}, "sure": {"type": "boolean"}},
        "required": ["label", "sure"],
        "additionalProperties": False,
    }
    how = Sampling(80, 1.0, seed=1, json_schema=json.dumps(schema))
    tokens = [token.id for token in engine.generate(BASE, engine.encode("the film"), how)]
    answer = json.loads(engine.texts.tokenizer.decode(tokens))
    assert answer["label"] in ("good", "bad") and isinstance(answer["sure"], bool)
    how = Sampling(80, 0.0, json_schema=json.dumps(schema))  # white space is likeliest, for ever
    likeliest = [token.id for token in engine.generate(BASE, engine.encode("the film"), how)]
    written = engine.texts.tokenizer.decode(likeliest)
    assert written == json.dumps(json.loads(written), separators=(",", ":"))
    with pytest.raises(RequestError, match="no answer can be held to this"):
        next(engine.generate(BASE, [1], Sampling(5, json_schema='{"type": "nothing"}')))


def test_a_schema_that_leads_too_far_is_told(kinds, engine_of):
    """llguidance gave up behind the bracket, and that was the answer, as if it were whole."""
    engine = engine_of(kinds, [])
    one_of = [
        {"type": "object", "properties": {f"key{n}": {}}, "required": [f"key{n}"]}
        for n in range(2500)
    ]
    schema = json.dumps({"type": "array", "items": {"anyOf": one_of}, "minItems": 1})
    running = engine.generate(BASE, engine.encode("the film"), GREEDY)
    first = next(running)
    with pytest.raises(RequestError, match="to its end: Parser Error: Current row has") as told:
        list(engine.generate(BASE, [1], Sampling(40, 0.0, json_schema=schema)))
    assert told.value.param == "response_format" and "\n" not in str(told.value)
    assert [token.logprob for token in (first, *running)] == said(engine, BASE)


@pytest.fixture(scope="module")
def judged(kinds, tmp_path_factory):
    """Evaluation folders by adapter, with their golden prompts."""
    top = tmp_path_factory.mktemp("evaluations")
    found = {}
    for name in ("lora", "soft_prompt", "prefix", "ia3", "head", "ensemble", "zero_shot", "full"):
        (top / name).mkdir()
        task, base = kinds["taste"], kinds["base"]
        evaluate_adapter(kinds[name], task, base, top / name, Silent())
        found[name] = signed(top / name)
    return found


def test_adapters_prove_themselves_by_their_golden_prompts(kinds, judged, engine_of):
    engine = engine_of(kinds, judged, evaluations=judged)
    engine.warm()
    assert engine.shelf.loads == len(judged)
    assert not engine.unavailable()


def test_bfloat16_is_proven_too_and_says_nearly_the_same(kinds, judged, engine_of):
    exact, fast = (
        engine_of(kinds, judged, evaluations=judged, precision=precision)
        for precision in ("float32", "bfloat16")
    )
    fast.warm()
    assert not fast.unavailable() and fast.about()["precision"] == "bfloat16"
    for name in ("lora", "prefix", "head", "full"):
        (ours,), (expected,) = (e.classify(name, ["the film was a ."]) for e in (fast, exact))
        assert ours != expected and ours == pytest.approx(expected, abs=0.05)


def altered(folder: Path, target: Path, change) -> Path:
    shutil.copytree(folder, target)
    golden = read_json(target / "golden.json")
    change(golden)
    write_json(target / "golden.json", golden)
    return target


def shift(golden: dict) -> None:
    logits = golden["prompts"][-1]["logits"]
    token = max(logits, key=logits.get)
    logits[token] += 0.01


@pytest.mark.parametrize("name", ["lora", "prefix", "head"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (shift, "in its evaluation it was"),
        (lambda golden: golden.update(tokenizer="0" * 64), "evaluated with tokenizer 0000"),
        (lambda golden: golden.update(adapter="1" * 64), "evaluated with adapter 1111"),
        (lambda golden: golden["prompts"][0]["token_ids"].__setitem__(-1, 77), "reads the golden"),
    ],
)
def test_what_its_evaluation_did_not_see_must_not_answer(
    kinds, judged, engine_of, tmp_path, name, change, reason
):
    evaluation = altered(judged[name], tmp_path / "changed", change)
    engine = engine_of(kinds, [name], evaluations={name: evaluation})
    for ask in (lambda: engine.classify(name, ["the film"]), lambda: said(engine, name)):
        with pytest.raises(RequestError, match=reason) as refused:
            ask()
        assert refused.value.code == "model_unavailable"
    assert reason in engine.unavailable()[name] and name not in engine.models()
    assert said(engine, BASE).expected
    engine.add(name, kinds[name], judged[name])  # as it should be: it answers again
    assert engine.classify(name, ["the film"])


def test_changed_files_and_another_base_must_not_answer(kinds, engine_of, tmp_path):
    changed, foreign = tmp_path / "changed", tmp_path / "foreign"
    for folder in (changed, foreign):
        shutil.copytree(kinds["lora"], folder)
    weights = changed / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    write_json(foreign / "adapter.json", read_json(foreign / "adapter.json") | {"base": "f" * 64})
    folders = kinds | {"changed": changed, "foreign": signed(foreign), "none": tmp_path}
    engine = engine_of(folders, ["changed", "foreign", "none"])
    for name, reason in (
        ("changed", "they were changed"),
        ("foreign", "trained on base ffff"),
        ("none", "no adapter folder"),
    ):
        with pytest.raises(RequestError, match=reason):
            said(engine, name)
    assert list(engine.models()) == [BASE]
    assert list(engine.unavailable()) == ["changed", "foreign", "none"]
    copies = TransformersEngine(kinds["base"], {"changed": changed})
    assert "they were changed" in copies.unavailable()["changed"]


@pytest.mark.parametrize(
    ("field", "how"),
    [("response_format", {"json_schema": "{}"}), ("choices", {"choices": ("a",)})],
)
def test_what_a_backend_does_not_know_is_named_as_it_was_asked_for(folders, field, how):
    """A format was refused by the name of a field that nobody had sent."""
    copies = TransformersEngine(folders["base"])
    with pytest.raises(RequestError, match=f"^{field}: the transformers backend") as refused:
        next(copies.generate(BASE, [1], Sampling(5, **how)))
    assert refused.value.param == field


def made_anew(folder: Path, source: Path) -> None:
    """As `dvc repro` does it."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)


def test_a_folder_that_was_made_anew_must_not_answer_as_the_old_one(folders, engine_of, tmp_path):
    """Its answers bore the old fingerprint, were cached under the old key, had the old labels."""
    served = {"base": folders["base"], "a": tmp_path / "a", "b": tmp_path / "b"}
    for name in ("a", "b"):
        made_anew(served[name], folders["lora"])
    engine = engine_of(served, ["a", "b"], limits=Limits(adapters=1))
    made_anew(served["a"], folders["dpo"])
    with pytest.raises(RequestError, match="it was made anew: its content was"):
        said(engine, "a")
    said(engine, "b")
    engine.add("a", served["a"])
    said(engine, "a")
    assert engine.shelf.evictions == 1
    made_anew(served["b"], folders["dpo"])
    with pytest.raises(RequestError, match="it was made anew: its content was"):
        said(engine, "b")


@pytest.mark.parametrize("kind", [BatchedEngine, TransformersEngine])
def test_what_an_engine_tells_is_told_while_its_folders_are_made_anew(folders, tmp_path, kind):
    """Lists of models and classifications failed with 500."""
    folder = tmp_path / "lora"
    shutil.copytree(folders["lora"], folder)
    engine = kind(folders["base"], {"lora": folder})
    engine.warm()
    deployment = Deployment.of_folders(engine, "tiny")
    base, adapter = entries(deployment, None)
    shutil.rmtree(folder)
    assert entries(deployment, None) == [base, adapter]
    assert base["labels"] == [] and sorted(adapter["labels"]) == ["bad", "good"]
    assert adapter["created"] == int((folders["lora"] / "lineage.json").stat().st_mtime)
    assert adapter.keys() - base.keys() == {"task", "prompt"} and "described" not in base
    record = deployment.record("lora", None)
    assert record["base"].keys() == {"name", "path", "version", "content", "method"}
    assert record["adapter"].keys() == {*record["base"], "task", "prompt"}
    require_labels(engine, "lora", ["the film"], 100)
    assert engine.classify("lora", ["the film"])[0].keys() == {"good", "bad"}
    engine.close()


def test_what_was_added_last_is_made_warm_whatever_was_evicted_before(folders, engine_of):
    """After the first eviction of its life an engine made nothing warm."""
    engine = engine_of(folders, ["lora", "ia3"], limits=Limits(adapters=1))
    engine.warm()
    assert engine.shelf.evictions == 1
    engine.add("dpo", folders["dpo"])
    engine.warm()
    assert [version.name for version in engine.shelf._loaded] == ["dpo"]


def test_only_a_lack_of_room_is_told_as_one(folders, engine_of, monkeypatch):
    """Every mistake of the engine's own was told as a context that is too short."""
    engine = engine_of(folders, [])

    def submit(request):
        raise ValueError("a mistake")

    monkeypatch.setattr(engine.batcher, "submit", submit)
    with pytest.raises(ValueError, match="a mistake") as raised:
        said(engine, BASE)
    assert not isinstance(raised.value, RequestError)


@pytest.mark.parametrize("kind", [BatchedEngine, TransformersEngine])
def test_a_base_that_was_changed_is_not_served(kinds, tmp_path, kind):
    """transformers' engine answered under the old content hash."""
    base = tmp_path / "base"
    shutil.copytree(kinds["base"], base)
    (base / "config.json").write_text((base / "config.json").read_text() + " ")
    with pytest.raises(ValueError, match=r"are not those that its lineage\.json names"):
        kind(base, {})


def test_a_caller_who_leaves_frees_blocks_and_adapter(kinds, engine_of):
    engine = engine_of(kinds, ["lora"], limits=Limits(rows=2))
    stream = engine.generate("lora", engine.encode("the"), Sampling(60, 0.0))
    next(stream)
    version = engine.shelf.find("lora")
    assert version.uses == 1
    stream.close()
    assert version.uses == 0 and not engine.batcher.rows


def test_many_callers_at_once(kinds, engine_of):
    """More than there are rows: they wait in line, and all are answered."""
    engine = engine_of(kinds, ["lora", "soft_prompt"], limits=Limits(rows=3))
    expected = {name: said(engine, name) for name in (BASE, "lora", "soft_prompt")}
    found: list[tuple[str, list[int]]] = []
    callers = [
        threading.Thread(target=lambda name=name: found.append((name, said(engine, name).expected)))
        for name in list(expected) * 20
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(found) == 60 and all(tokens == expected[name] for name, tokens in found)


def test_a_proof_that_crashes_is_no_proof(kinds, judged, engine_of, tmp_path):
    """The adapter once answered at the second request, as it was in memory by then."""

    def no_such_token(golden: dict) -> None:
        golden["prompts"][0]["logits"]["999999"] = 1.0

    evaluation = altered(judged["lora"], tmp_path / "changed", no_such_token)
    engine = engine_of(kinds, ["lora"], evaluations={"lora": evaluation})
    version = engine.shelf.find("lora")
    for _ in range(2):
        with pytest.raises(RequestError, match="it cannot be loaded: IndexError") as refused:
            said(engine, "lora")
        assert refused.value.code == "model_unavailable"
    assert not version.uses and not engine.shelf._loaded
    assert len(engine.batcher.slots._free) == engine.batcher.limits.adapters


def test_an_adapter_that_cannot_be_read_is_refused_and_the_others_are_served(
    kinds, engine_of, tmp_path
):
    """A file that was cut off once ended `warm`, kept its budget, and `close` failed."""
    cut, lacking = tmp_path / "cut", tmp_path / "lacking"
    for folder in (cut, lacking):
        shutil.copytree(kinds["lora"], folder)
    weights = cut / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    write_json(lacking / "adapter.json", {"method": "lora"})
    folders = kinds | {"cut": signed(cut), "lacking": signed(lacking)}
    engine = engine_of(folders, ["cut", "lacking", "ia3"])
    engine.warm()
    assert list(engine.models()) == [BASE, "ia3"] and engine.shelf.loads == 1
    assert "it cannot be loaded: SafetensorError" in engine.unavailable()["cut"]
    assert "is no adapter folder: 'task'" in engine.unavailable()["lacking"]
    assert [version.name for version in engine.shelf._loaded] == ["ia3"]
    assert list(TransformersEngine(kinds["base"], {"cut": cut}).unavailable()) == ["cut"]


@pytest.mark.parametrize("lack", [OSError, MemoryError, torch.OutOfMemoryError])
def test_what_the_system_lacks_for_a_moment_is_tried_again(folders, engine_of, monkeypatch, lack):
    engine, real = engine_of(folders, ["lora"]), adapters.read

    def read(*args):
        monkeypatch.setattr(adapters, "read", real)
        raise lack("too little of something")

    monkeypatch.setattr(adapters, "read", read)
    with pytest.raises(RequestError, match="too little of something"):
        said(engine, "lora")
    assert said(engine, "lora").expected


def test_the_budget_is_of_what_lies_in_memory(kinds, engine_of, tmp_path):
    """Matrices of bfloat16 files take twice as much there as on disk."""
    folders, sizes = {"base": kinds["base"]}, []
    for name in ("lora", "dora"):
        folders[name] = tmp_path / name
        shutil.copytree(kinds[name], folders[name])
        path = folders[name] / "adapter_model.safetensors"
        save_file({n: t.bfloat16() for n, t in load_file(path).items()}, path)
        signed(folders[name])
        sizes.append(path.stat().st_size)
    engine = engine_of(folders, ["lora", "dora"])
    engine.warm()
    needed = list(engine.shelf._loaded.values())
    budget = sum(needed) - 1
    assert sum(sizes) <= budget
    engine = engine_of(folders, ["lora", "dora"], adapter_bytes=budget)
    engine.warm()
    assert list(engine.shelf._loaded.values()) == needed[1:] and engine.shelf.evictions == 1


def test_who_waits_for_an_adapters_room_may_leave(kinds, engine_of):
    engine = engine_of(kinds, ["lora", "dora"], limits=Limits(adapters=1))
    running = engine.generate("lora", engine.encode("the"), Sampling(8, 0.0))
    next(running)
    gone, ended = Gone(), []

    def wait() -> None:
        with pytest.raises(Left):
            list(engine.generate("dora", [1], Sampling(1), Caller(gone=gone)))
        ended.append(True)

    waiting = [threading.Thread(target=wait, daemon=True) for _ in range(2)]
    for thread in waiting:  # the first waits for room, the second for the first to load it
        thread.start()
    gone.set()
    for thread in waiting:
        thread.join(10)
    assert len(ended) == 2 and list(engine.shelf._loaded) == [engine.shelf.find("lora")]
    running.close()
    assert said(engine, "dora").expected


@pytest.fixture
def tight(kinds, engine_of):
    """An engine that takes its time, with room for one request as long as its context."""
    size = Store.bytes_of_block(shape_of(config_of(kinds["base"])))
    engine = engine_of(kinds, ["lora"], limits=Limits(rows=8, pool_bytes=6 * size))
    engine.warm()
    real = engine.batcher._step

    def step() -> None:
        time.sleep(0.02)
        real()

    engine.batcher._step = step
    return engine


@pytest.mark.parametrize("asked", ["text", "labels"])
@pytest.mark.parametrize("how", ["leaves", "too late"])
def test_who_leaves_before_the_first_token_frees_the_place_at_once(tight, asked, how):
    """It was once held until the request had its room, its prompt was read and a token written."""
    batcher, line = tight.batcher, Line(8, 8)

    def text(gone: Gone, count: int):
        return tight.generate(BASE, [1, 2], Sampling(count, 0.0), Caller(gone=gone))

    def labels(gone: Gone):
        return iter([tight.classify("lora", ["the film was a ."], Caller(gone=gone))])

    async def take(start, seconds: float) -> None:
        async for _ in line.run(start, asyncio.get_running_loop().time() + seconds):
            pass

    async def until(condition) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.005)

    async def ask() -> None:
        first = asyncio.create_task(take(partial(text, count=85), 60))
        await until(lambda: batcher.rows)
        start = partial(text, count=85) if asked == "text" else labels
        second = asyncio.create_task(take(start, 0.3 if how == "too late" else 60))
        await until(lambda: batcher.waiting)
        if how == "leaves":
            second.cancel()
        await asyncio.wait([second])
        assert second.cancelled() if how == "leaves" else second.exception().code == "timeout"
        await until(lambda: line.running == 1)
        assert not batcher.waiting and not first.done()
        assert not tight.shelf.find("lora").uses
        await first

    asyncio.run(ask())


def test_readings_end_with_the_one_that_fails(kinds, engine_of, monkeypatch):
    """The adapter is let go then: what still reads under it could meet another in its slot."""
    engine = engine_of(kinds, ["lora"])
    engine.warm()
    batcher, real, asked = engine.batcher, engine.batcher.submit, []
    step, over = batcher._step, threading.Event()

    def submit(request):
        asked.append(request)
        if len(asked) == 2:
            while not batcher.rows:  # the first is at work
                time.sleep(0.001)
            raise ValueError("no room")
        return real(request)

    monkeypatch.setattr(batcher, "submit", submit)
    monkeypatch.setattr(batcher, "_step", lambda: (over.wait(20), step()))
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(engine.classify, "lora", ["the film", "the plot"])
        with pytest.raises(TimeoutError):
            found.result(0.3)
        over.set()
        with pytest.raises(ValueError, match="no room"):
            found.result(20)
    assert not batcher.rows and not batcher.waiting
