"""The tokenizer: any text survives, no text is a command, AutoTokenizer agrees."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from components.lineage import folder_hash, read_json, write_jsonl
from components.reporter import Silent
from components.tokenizer import SPECIAL, Tokenizer, open_engine, train_tokenizer

ROOT = Path(__file__).parents[1]
ODD = [
    "",
    " leading and trailing ",
    "two  spaces\n\n\ttab\r\n",
    "naïve café, 東京, 🙂‍↔️, \u2028, \x00\x7f",
    "<|endoftext|> is text here, and so is <|user|>",
]


class Noted(Silent):
    """Keeps the parameters it was told."""

    def __init__(self) -> None:
        self.told: dict[str, object] = {}

    def params(self, values) -> None:
        self.told.update(values)


def write_corpus(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    words = [
        "the",
        "film",
        "was",
        "good",
        "bad",
        "warm",
        "dull",
        "and",
        "never",
        "quite",
        "as",
        "clever",
        "as",
        "its",
        "music",
    ]
    texts = [" ".join(words[(n * k) % len(words)] for k in range(1, 30)) for n in range(60)]
    write_jsonl(folder / "train.jsonl", ({"text": f"{t}. <|endoftext|>"} for t in texts))
    write_jsonl(folder / "validation.jsonl", ({"text": text} for text in [*texts[:5], *ODD[1:]]))
    write_jsonl(folder / "test.jsonl", ({"text": text} for text in texts[5:9]))
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def folder(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(Tokenizer(vocab_size=320), corpus, out, Silent())
    return out


@pytest.mark.parametrize("keys", [{"vocab_size": 299}, {"vocab_size": 320, "min_frequency": 0}])
def test_impossible_settings_are_refused(keys: dict):
    with pytest.raises(ValidationError):
        Tokenizer(**keys)


@pytest.mark.parametrize("text", ODD)
def test_any_text_survives(text: str, folder: Path):
    engine = open_engine(folder)
    assert engine.decode(engine.encode(text).ids, skip_special_tokens=False) == text


def test_text_gives_no_commands(folder: Path):
    """A corpus that holds "<|endoftext|>" must not be able to end a document."""
    engine = open_engine(folder)
    special = {engine.token_to_id(token) for token in SPECIAL}
    assert special == set(range(len(SPECIAL)))
    for text in ODD:
        assert not special & set(engine.encode(text).ids)
        assert not special & set(engine.encode_batch_fast([text])[0].ids)


def test_statistics_describe_the_tokenizer(corpus: Path, folder: Path, tmp_path: Path):
    figures = train_tokenizer(Tokenizer(vocab_size=320), corpus, tmp_path, Silent())
    found = read_json(folder / "statistics.json")
    assert found["vocab_size"] == figures["vocab_size"] == 320
    assert found["round_trip_failures"] == 0
    assert sum(found["token_length"].values()) == 320 - len(SPECIAL)
    assert found["token_length"]["1"] == 256
    assert set(found["bytes_per_token"]) == {"train", "validation", "test"}
    assert 0 < found["vocabulary_used"] < 1
    assert figures["bytes_per_token"] == found["bytes_per_token"]["validation"]


def test_training_is_deterministic_across_processes(corpus: Path, folder: Path, tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; from components.reporter import Silent\n"
        "from components.tokenizer import Tokenizer, train_tokenizer\n"
        "train_tokenizer(Tokenizer(vocab_size=320), *map(Path, sys.argv[1:]), Silent())\n"
        "print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(corpus), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False False", done.stderr
    assert folder_hash(tmp_path) == folder_hash(folder)


def test_a_small_corpus_says_what_it_reached(corpus: Path, tmp_path: Path):
    report = Noted()
    figures = train_tokenizer(Tokenizer(vocab_size=60_000), corpus, tmp_path, report)
    assert 300 < figures["vocab_size"] < 1000
    assert report.told == {"vocab_size_reached": figures["vocab_size"]}


def test_missing_input_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"train\.jsonl: no such file; run 'dvc repro'"):
        train_tokenizer(Tokenizer(vocab_size=320), tmp_path, tmp_path, Silent())
    with pytest.raises(ValueError, match=r"has no tokenizer\.json"):
        open_engine(tmp_path)


def test_autotokenizer_opens_the_folder(folder: Path):
    from transformers import AutoTokenizer

    opened = AutoTokenizer.from_pretrained(folder)
    engine = open_engine(folder)
    assert (opened.eos_token, opened.bos_token, opened.pad_token) == (*SPECIAL[:1] * 2, SPECIAL[1])
    assert len(opened) == engine.get_vocab_size()
    for text in ODD[:-1]:
        ids = opened(text)["input_ids"]
        assert ids == engine.encode(text).ids
        assert opened.decode(ids) == text
    assert opened("a<|endoftext|>")["input_ids"][-1] == opened.eos_token_id


def test_the_chat_template_writes_turns(folder: Path):
    from jinja2 import TemplateError
    from transformers import AutoTokenizer

    opened = AutoTokenizer.from_pretrained(folder)
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Good?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Why?"},
    ]
    written = (
        "<|system|>Be brief.<|user|>Good?<|assistant|>Yes.<|endoftext|><|user|>Why?<|assistant|>"
    )
    found = opened.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert found == written
    ids = opened.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
    assert ids == opened(written, add_special_tokens=False)["input_ids"]
    assert ids[-1] == opened.convert_tokens_to_ids("<|assistant|>")
    with pytest.raises(TemplateError, match="unknown role tool"):
        opened.apply_chat_template([{"role": "tool", "content": "x"}], tokenize=False)
