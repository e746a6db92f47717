"""What each method promises, held by one test: see `test_a_method_keeps_its_promises`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
)

from components.adapters import METHODS, answering, load_adapter
from components.adapters.fitting import Fitting
from components.adapters.preference_loss import PreferenceLoss
from components.adapters.task_data import TaskData
from components.adapters.virtual_tokens import initial_ids
from components.lineage import folder_hash, read_json, read_jsonl, write_jsonl
from components.models import llama
from components.prompts import choose_shots
from components.reporter import Silent
from components.training import machine, plan
from components.training.checkpoint import Checkpoints
from tests.tiny_models import ADAPTERS, TRAINING, block_of

TEXT = "the film was a ."
VIRTUAL, WIDE, RANK = 4, 24, 2  # virtual tokens, an encoder's hidden width, a delta's rank


def keys(config: LlamaConfig) -> int:
    """The width of a layer's keys, and of its values."""
    return config.num_key_value_heads * config.head_dim


def matrices(c: LlamaConfig) -> list[tuple[int, int]]:
    """(inputs, outputs) of a layer's: queries, keys, values, output, gate, up, down."""
    d, f, k = c.hidden_size, c.intermediate_size, keys(c)
    return [(d, d), (d, k), (d, k), (d, d), (d, f), (d, f), (f, d)]


def low_rank(c: LlamaConfig) -> int:
    """Hu et al. 2021, section 4.1: A is rank x inputs, B outputs x rank."""
    return c.num_hidden_layers * sum(RANK * (inputs + outputs) for inputs, outputs in matrices(c))


def magnitudes(c: LlamaConfig) -> int:
    """Liu et al. 2024, equation 5: one for each row of W as PyTorch keeps it."""
    return c.num_hidden_layers * sum(outputs for _, outputs in matrices(c))


def whole(c: LlamaConfig) -> int:
    """Embeddings, which are the output matrix too, and of each layer matrices and two norms."""
    layer = sum(inputs * outputs for inputs, outputs in matrices(c)) + 2 * c.hidden_size
    return c.vocab_size * c.hidden_size + c.num_hidden_layers * layer + c.hidden_size


def prefix(c: LlamaConfig) -> int:
    """Liu et al. 2022, section 3.2: a key and a value for each layer."""
    return 2 * c.num_hidden_layers * keys(c)


def lstm(c: LlamaConfig) -> int:
    """Liu et al. 2021, equations 5 and 6: two bidirectional layers, and two linear ones."""
    cell = [4 * WIDE * (inputs + WIDE + 2) for inputs in (c.hidden_size, 2 * WIDE)]
    out = 2 * WIDE * (2 * WIDE + 1) + (2 * WIDE + 1) * c.hidden_size
    return VIRTUAL * c.hidden_size + 2 * sum(cell) + out


def mlp(c: LlamaConfig) -> int:
    d = c.hidden_size
    return VIRTUAL * d + (d + 1) * WIDE + (WIDE + 1) * WIDE + (WIDE + 1) * d


@dataclass(frozen=True)
class Promise:
    """count: trained parameters, by the paper's formula. begins: as what it answers untrained:
    the `base`, the base behind the `text` of its first virtual tokens, or `undecided`.
    merges: into the base's matrices. changes: what of the base is trained.
    """

    settings: dict[str, Any]
    count: Callable[[LlamaConfig], int]
    begins: str | None = "base"
    merges: bool = False
    changes: Callable[[str], bool] = lambda name: False


LOW_RANK = {"rank": RANK, "learning_rate": 0.05}
SOFT = {"virtual_tokens": VIRTUAL, "learning_rate": 0.1}
WORDS = {"init": "text", "init_text": "the plot was b"}
NARROW = {"encoder_width": WIDE}
PROMISES = {
    "lora": Promise({"method": "lora", **LOW_RANK}, low_rank, merges=True),
    "rank_stabilised": Promise(
        {"method": "lora", "rank_stabilised": True, **LOW_RANK}, low_rank, merges=True
    ),
    "dora": Promise(
        {"method": "lora", "dora": True, **LOW_RANK},
        lambda c: low_rank(c) + magnitudes(c),
        merges=True,
    ),
    "dpo": Promise({"method": "dpo", **LOW_RANK}, low_rank, merges=True),
    "ia3": Promise(
        {"method": "ia3", "learning_rate": 0.5},
        # Liu et al. 2022, section 3.3: a layer's keys, values and feed-forward activations
        lambda c: c.num_hidden_layers * (2 * keys(c) + c.intermediate_size),
        merges=True,
    ),
    **{
        f"prompt_tuning, {init}": Promise(
            {"method": "prompt_tuning", "init": init, **SOFT},
            lambda c: VIRTUAL * c.hidden_size,  # Lester et al. 2021, section 2
            begins="text",
        )
        for init in ("vocabulary", "labels", "examples")
    },
    "prompt_tuning, text": Promise(
        {"method": "prompt_tuning", **SOFT, **WORDS},
        lambda c: VIRTUAL * c.hidden_size,
        begins="text",
    ),
    "prompt_tuning, random": Promise(
        {"method": "prompt_tuning", "init": "random", **SOFT},
        lambda c: VIRTUAL * c.hidden_size,
        begins=None,
    ),
    "prompt_tuning, ensemble": Promise(
        {"method": "prompt_tuning", "ensemble": 3, "init": "vocabulary", **SOFT},
        lambda c: 3 * VIRTUAL * c.hidden_size,
        begins="text",
    ),
    "p_tuning, mlp": Promise(
        {"method": "p_tuning", "encoder": "mlp", **SOFT, **NARROW}, mlp, begins="text"
    ),
    "p_tuning, lstm": Promise(
        {"method": "p_tuning", "encoder": "lstm", **SOFT, **NARROW}, lstm, begins="text"
    ),
    "prefix_tuning": Promise(
        {"method": "prefix_tuning", **SOFT, **WORDS},
        lambda c: VIRTUAL * prefix(c),
        begins="text",
    ),
    "prefix_tuning, projected": Promise(
        {"method": "prefix_tuning", "projection": True, **SOFT, **NARROW},
        lambda c: VIRTUAL * keys(c) + (keys(c) + 1) * WIDE + (WIDE + 1) * prefix(c),
        begins="text",
    ),
    "prefix_tuning, random": Promise(
        {"method": "prefix_tuning", "init": "random", **SOFT},
        lambda c: VIRTUAL * prefix(c),
        begins=None,
    ),
    "head": Promise(
        {"method": "head", "learning_rate": 0.1}, lambda c: 2 * c.hidden_size, begins="undecided"
    ),
    "head, unfrozen": Promise(
        {"method": "head", "unfrozen": True, "learning_rate": 0.01},
        lambda c: whole(c) + 2 * c.hidden_size,
        begins="undecided",
        changes=lambda name: True,
    ),
    "full": Promise({"method": "full", "learning_rate": 0.01}, whole, changes=lambda name: True),
}


def test_every_method_has_a_promise_and_a_model_in_the_other_tests():
    trained = {name for name, method in METHODS.items() if method.build}
    assert {promise.settings["method"] for promise in PROMISES.values()} == trained
    assert {settings["method"] for settings in ADAPTERS.values()} == set(METHODS)
    assert all(METHODS[name].block.model_fields["method"].annotation for name in METHODS)


@pytest.fixture
def data(folders) -> TaskData:
    rows = list(read_jsonl(folders["taste"] / "train.jsonl"))
    labels = read_json(folders["taste"] / "task.json")["labels"]
    return TaskData(AutoTokenizer.from_pretrained(folders["base"]), labels, rows)


def begun(fitting: Fitting, promise: Promise, base, data: TaskData) -> torch.Tensor:
    """The logits that the untrained model promises for TEXT."""
    if promise.begins == "undecided":
        return torch.zeros(len(data.labels))
    ids = torch.tensor([data.tokenizer.bos_token_id])
    if promise.begins == "text":
        ids = initial_ids(base, fitting.block, data)
        assert ids[0] == data.tokenizer.bos_token_id and len(ids) == VIRTUAL
    read = torch.cat([ids, torch.tensor(data.tokenizer(TEXT)["input_ids"])])
    with torch.no_grad():
        return base(input_ids=read.unsqueeze(0)).logits[0, -1]


def opened(method: str, folder, base) -> torch.nn.Module:
    """The saved model, by the library whose form it has."""
    from peft import PeftModel

    if (folder / "adapter_config.json").is_file():
        return PeftModel.from_pretrained(base, str(folder)).eval()
    kind = AutoModelForSequenceClassification if method == "head" else AutoModelForCausalLM
    return kind.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.mark.parametrize("name", PROMISES)
def test_a_method_keeps_its_promises(folders, data, tmp_path, name):
    """Untouched at first, so many parameters, the base stands, saved is loaded, merged is equal.

    And a training that goes on from its last checkpoint makes the same bytes.
    """
    promise, out, again = PROMISES[name], tmp_path / "out", tmp_path / "again"
    for folder in (out, again):
        folder.mkdir()
    each_step = {"checkpoint_minutes": 1e-9}
    block = block_of({**TRAINING, "steps": 4, **each_step, **promise.settings})
    method = METHODS[block.method]
    base, model = llama.load(folders["base"]), llama.load(folders["base"])
    own = dict(model.named_parameters())
    fitting = Fitting(method, block, model, data, data.rows[:8])

    def said(of: torch.nn.Module) -> torch.Tensor:
        return method.logits(of, data.tokenizer, TEXT)[1].cpu()

    untrained = said(fitting.model.eval())
    if promise.begins:
        torch.testing.assert_close(
            untrained, begun(fitting, promise, base, data), atol=2e-5, rtol=1e-4
        )
    figures = fitting.train(Checkpoints(tmp_path / "kept", "x"), Silent(), out)
    assert figures["trainable_parameters"] == promise.count(base.config)

    trained = said(fitting.model)
    assert (trained - untrained).abs().max() > 1e-3
    for parameter, weight in base.named_parameters():
        stands = torch.equal(own[parameter].cpu(), weight)
        assert stands != promise.changes(parameter), parameter

    ours = method.load(llama.load(folders["base"]), out).eval()
    theirs = opened(block.method, out, llama.load(folders["base"]))
    for loaded in (ours, theirs):
        torch.testing.assert_close(said(loaded), trained, atol=2e-5, rtol=1e-4)
    if promise.merges:
        merged = ours.merge_and_unload()
        assert not hasattr(merged, "peft_config")
        torch.testing.assert_close(said(merged), trained, atol=5e-5, rtol=1e-4)

    kept = Checkpoints(tmp_path / "kept", "x")
    kept.newest().unlink()  # of the last step
    assert kept.latest()[0] == 3
    Fitting(method, block, llama.load(folders["base"]), data, data.rows[:8]).train(
        kept, Silent(), again
    )
    assert folder_hash(again) == folder_hash(out)


def test_members_of_an_ensemble_vote_as_each_would_alone(folders, data, tmp_path):
    """One batch of the base, three soft prompts; their mean is a fourth vote."""
    settings = {"method": "prompt_tuning", "ensemble": 3, "init": "vocabulary", **SOFT}
    block = block_of({**TRAINING, **settings, "learning_rate": 0.5})
    fitting = Fitting(METHODS["prompt_tuning"], block, llama.load(folders["base"]), data, data.rows)
    fitting.train(Checkpoints(tmp_path / "kept", "x"), Silent(), tmp_path)
    model = METHODS["prompt_tuning"].load(llama.load(folders["base"]), tmp_path).eval()
    prompts = [data.prompt(row) for row in data.rows]
    scored = METHODS["prompt_tuning"].scores(model, data.tokenizer, prompts, data.labels)
    alone = []
    for folder in (tmp_path, tmp_path / "member_1", tmp_path / "member_2"):
        member = opened("prompt_tuning", folder, llama.load(folders["base"]))
        alone.append(answering.scores(member, data.tokenizer, prompts, data.labels))
    assert alone[0] != alone[1] != alone[2]
    for together, *each in zip(scored, *alone, strict=True):
        tensors = torch.tensor([[scores[label] for label in data.labels] for scores in each])
        votes = torch.bincount(tensors.argmax(1), minlength=2) + tensors.softmax(1).mean(0)
        expected = (votes / 4).log().tolist()
        assert list(together.values()) == pytest.approx(expected, abs=1e-4)


def test_members_that_would_learn_the_same_are_refused(folders, data):
    """The labels' tokens fill four virtual ones, so that no seed has a say."""
    block = block_of({"method": "prompt_tuning", "ensemble": 2, **SOFT})
    with pytest.raises(ValueError, match="init 'labels' with 4 virtual_tokens begins the same"):
        METHODS["prompt_tuning"].build(llama.load(folders["base"]), block, data)
    with pytest.raises(ValidationError, match="init: text begins the same for every member"):
        block_of({"method": "prompt_tuning", "ensemble": 2, **SOFT, **WORDS})


def test_an_encoder_too_narrow_to_tell_its_tokens_apart_is_refused(folders, data):
    for settings in ({"method": "p_tuning"}, {"method": "prefix_tuning", "projection": True}):
        block = block_of({**settings, "virtual_tokens": 8, "encoder_width": 7})
        assert block.told_apart(32) == 7, "refused before any work where the width is known"
        with pytest.raises(ValueError, match="width 7 cannot tell 8 virtual tokens apart; raise"):
            METHODS[block.method].build(llama.load(folders["base"]), block, data)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, 2),  # alpha is twice the rank where nothing is said
        ({"alpha": 12.0}, 3),
        ({"alpha": 12.0, "rank_stabilised": True}, 6),  # Kalajdzievski 2023: over the root
    ],
)
def test_a_delta_is_scaled_as_its_paper_says(folders, data, settings, wanted):
    block = block_of({"method": "lora", "rank": 4, "targets": ["q_proj"], **settings})
    model = METHODS["lora"].build(llama.load(folders["base"]), block, data)
    found = {m.scaling["default"] for m in model.modules() if hasattr(m, "lora_A")}
    assert found == {wanted}


def test_each_target_of_a_delta_is_a_matrix_of_the_base(folders, data):
    """PEFT said nothing of a misspelt one, as long as another was there."""
    matrices = dict(llama.load(folders["base"]).named_modules())
    layer = {name.rpartition(".")[2] for name in matrices if name.endswith("_proj")}
    assert layer == set(llama.MATRICES)
    block = block_of({"method": "lora", "targets": ["layers.0.self_attn.q_proj", "v_porj"]})
    with pytest.raises(
        ValueError, match="no matrix 'v_porj'; did you mean 'v_proj'\\? known: down"
    ):
        METHODS["lora"].build(llama.load(folders["base"]), block, data)


def saved_by(module: torch.nn.Module, batch) -> int:
    """Bytes that autograd keeps of a batch, beside the weights."""
    weights = {p.untyped_storage().data_ptr() for p in module.parameters()}
    saved = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = (storage.nbytes(), tensor)  # alive, or it is used anew
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(batch, 1)
    return sum(size for size, _ in saved.values())


@pytest.mark.parametrize("settings", [{"method": "full"}, {"method": "prompt_tuning", **SOFT}])
def test_a_batch_that_does_not_fit_is_split_by_what_its_longest_row_keeps(
    folders, data, tmp_path, monkeypatch, settings
):
    """On a processor nothing runs out of memory that could be halved: the machine swaps."""
    long = {**data.rows[0], "prompt": data.rows[0]["prompt"] * 4}
    rows = [*data.rows[1:], long]
    found = []
    for free in (1e12, None):
        mixed = TaskData(data.tokenizer, data.labels, rows)
        block = block_of({**TRAINING, **settings})
        base = llama.load(folders["base"])
        fitting = Fitting(METHODS[block.method], block, base, mixed, rows[:8])
        each = fitting.row_bytes("float32")
        trained = sum(p.numel() for p in fitting.module.parameters() if p.requires_grad)
        kept = saved_by(fitting.module, fitting.module.encode([long]))
        assert kept / 1.2 < each < 2 * kept
        short = free or (12 * trained + 2.5 * each) / plan.ROOM
        monkeypatch.setattr(machine, "free_memory", lambda short=short: short)
        checkpoints = Checkpoints(tmp_path / str(free), "x")
        (tmp_path / str(free)).mkdir()
        fitting.train(checkpoints, Silent(), tmp_path / str(free))
        found.append((checkpoints.remembered()["micro_rows"], fitting.module.state_dict()))
    assert [size for size, _ in found] == [8, 2]
    for name, weight in found[0][1].items():
        torch.testing.assert_close(weight, found[1][1][name], atol=1e-5, rtol=1e-4)


def test_a_task_without_labels_has_no_head(folders, data):
    free = TaskData(data.tokenizer, {}, data.rows)
    with pytest.raises(ValueError, match="the task has no labels; choose another method"):
        METHODS["head"].build(llama.load(folders["base"]), block_of({"method": "head"}), free)


@pytest.mark.parametrize("name", [name for name in ADAPTERS if name != "zero_shot"])
def test_a_method_is_trained_on_a_base_that_learned_nothing(folders, tmp_path, name):
    """The control of every score; it once was loaded onto the trained base."""
    from components.adapters.training import train_adapter
    from components.evaluation import evaluate_adapter
    from tests.tiny_models import signed

    places = [tmp_path / place for place in ("adapter", "scores")]
    for place in places:
        place.mkdir()
    block = block_of(ADAPTERS[name] | {"steps": 2} if name != "zero_shot" else ADAPTERS[name])
    train_adapter(
        block, name, folders["taste"], folders["base"], places[0],
        checkpoints=tmp_path / "kept", identity="x", report=Silent(), random_base=True,
    )  # fmt: skip
    signed(places[0])
    evaluate_adapter(places[0], folders["taste"], folders["base"], places[1], Silent())
    ours = load_adapter(folders["base"], places[0])
    tokenizer = AutoTokenizer.from_pretrained(folders["base"])
    for golden in read_json(places[1] / "golden.json")["prompts"]:
        ids, logits = METHODS[block.method].logits(ours, tokenizer, golden["prompt"])
        assert ids == golden["token_ids"] and len(golden["logits"]) == min(16, len(logits))
        for number, value in golden["logits"].items():
            assert float(logits[int(number)]) == pytest.approx(value, abs=1e-3)


def preference(folders, data) -> tuple[PreferenceLoss, list[dict[str, str]]]:
    """DPO's loss with deltas that are not zero, and rows whose answers differ in length."""
    block = block_of({"method": "dpo", "rank": RANK, "beta": 0.3})
    torch.manual_seed(0)
    model = METHODS["dpo"].build(llama.load(folders["base"]), block, data)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.2)
    rows = [
        {"id": "1", "prompt": "the film was", "answer": " a good film", "rejected": " b"},
        {"id": "2", "prompt": "the plot was c and", "answer": " d", "rejected": " bad bad"},
    ]
    return METHODS["dpo"].objective(model, block, data), rows


def test_the_preference_loss_is_that_of_trl(folders, data, tmp_path):
    """Loss and gradients of trl's own trainer on the same token ids."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    ours, rows = preference(folders, data)
    theirs, _ = preference(folders, data)
    loss = ours(ours.encode(rows), len(rows))
    loss.backward()
    tokens = data.tokenizer
    pairs = [
        {
            "prompt_ids": [tokens.bos_token_id, *tokens(row["prompt"])["input_ids"]],
            "chosen_ids": tokens(row["answer"])["input_ids"],
            "rejected_ids": tokens(row["rejected"])["input_ids"],
        }
        for row in rows
    ]
    columns = {"prompt": "prompt", "answer": "chosen", "rejected": "rejected"}
    told = [{new: row[old] for old, new in columns.items()} for row in rows]
    settings = DPOConfig(
        str(tmp_path), beta=0.3, report_to="none", gradient_checkpointing=False, bf16=False,
        use_cpu=True,
    )  # fmt: skip
    given = {"train_dataset": Dataset.from_list(told), "processing_class": tokens}
    trainer = DPOTrainer(theirs.model, llama.load(folders["base"]), settings, **given)
    batch = DataCollatorForPreference(tokens.pad_token_id)(pairs)
    expected = trainer.compute_loss(trainer.model, batch)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert abs(loss.item() - 0.6931) > 1e-3  # that of no preference
    grads = {n: p.grad for n, p in trainer.model.named_parameters() if p.requires_grad}
    assert grads
    for parameter, grad in grads.items():
        mine = ours.model.get_parameter(parameter).grad
        torch.testing.assert_close(mine, grad, atol=1e-5, rtol=1e-3)


def test_nothing_is_preferred_at_first_and_rejected_answers_are_drawn_by_seed(folders, data):
    labels = {"a": " a", "b": " b", "c": " c"}
    many = TaskData(data.tokenizer, labels, data.rows)
    block = block_of({"method": "dpo", "rank": RANK})
    model = METHODS["dpo"].build(llama.load(folders["base"]), block, many)
    drawn = []
    for seed in (0, 1):
        loss = PreferenceLoss(model, many, beta=0.1, seed=seed)
        rows = [{"id": str(n), "prompt": "the", "answer": " a"} for n in range(20)]
        drawn.append([loss.rejected(row) for row in rows])
        assert loss(loss.encode(rows), 20).item() == pytest.approx(0.693147, abs=1e-5)
    assert set(drawn[0]) == {" b", " c"} and drawn[0] != drawn[1]
    alone = TaskData(data.tokenizer, {}, data.rows)
    with pytest.raises(ValueError, match="row 7 has no 'rejected' answer"):
        PreferenceLoss(model, alone, 0.1, 0).rejected({"id": "7", "answer": " a"})


def test_a_file_of_preferences_is_learned(folders, tmp_path):
    """From the columns of a data set for trl to an adapter that prefers as its rows do."""
    from components.adapters.likelihood import score_answers
    from components.adapters.training import train_adapter
    from components.dataset import Dataset
    from components.evaluation import evaluate_adapter
    from components.ingest import ingest
    from components.prompts import Prompt
    from components.tasks import Task, build_task
    from tests.tiny_models import TEXTS, signed

    made = {name: tmp_path / name for name in ("data", "task", "adapter", "scores")}
    for folder in made.values():
        folder.mkdir()
    pairs = [
        {"prompt": f"{text} number {n}", "chosen": "it was good .", "rejected": "it was bad ."}
        for n, text in enumerate(TEXTS * 5)
    ]
    pairs[0]["rejected"] = "bad " * 200  # longer than the context
    write_jsonl(tmp_path / "pairs.jsonl", pairs)
    columns = {"source": "prompt", "target": "chosen", "rejected": "rejected"}
    block = Dataset(path="pairs", format="jsonl", **columns)
    ingest(block, tmp_path / "pairs.jsonl", made["data"], Silent())
    prompt = Prompt(template="{{source}} :", answer=" {{target}}")
    task = Task(dataset="pairs", kind="generation", prompt="say", metric="f1", max_new_tokens=8)
    build_task(task, "taste", prompt, "say", made["data"], made["task"], Silent())
    settings = {
        "method": "dpo",
        "rank": RANK,
        **TRAINING,
        "learning_rate": 0.02,
        "steps": 30,
        "beta": 1.0,
    }
    figures = train_adapter(
        block_of(settings), "dpo", made["task"], folders["base"], made["adapter"],
        checkpoints=tmp_path / "kept", identity="x", report=Silent(),
    )  # fmt: skip
    assert figures["validation_loss"] < 0.3 and figures["truncated"] == 1
    model = load_adapter(folders["base"], signed(made["adapter"]))
    tokenizer = AutoTokenizer.from_pretrained(folders["base"])
    rows = list(read_jsonl(made["task"] / "test.jsonl"))
    prompts = [row["prompt"] for row in rows]

    def likely(of, key):
        scored = score_answers(of, tokenizer, prompts, [row[key] for row in rows])
        return torch.tensor([sum(each.logprobs) for each in scored])

    base = llama.load(folders["base"])
    gain = likely(model, "answer") - likely(base, "answer")
    assert (gain > likely(model, "rejected") - likely(base, "rejected")).all()
    evaluate_adapter(made["adapter"], made["task"], folders["base"], made["scores"], Silent())
    assert len(list(read_jsonl(made["scores"] / "records.jsonl"))) == len(rows)


def test_choice_and_order_of_shots_are_the_seeds(data):
    """They are part of an evaluation's fingerprint: see `tests/test_metrics.py`."""
    first, again, other = (choose_shots(data.rows, 4, seed) for seed in (1, 1, 2))
    assert first == again and set(first) != set(other)
    orders = [choose_shots(data.rows[:2], 2, seed) for seed in range(8)]
    assert {tuple(order) for order in orders} == {tuple(orders[0]), tuple(orders[0][::-1])}
