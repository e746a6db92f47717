"""Token files: a document read from the middle is what it is when encoded alone."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from components import tokens as tokens_module
from components.lineage import folder_hash, read_json, read_jsonl, write_json, write_jsonl
from components.reporter import Silent
from components.tokenizer import Tokenizer, open_engine, train_tokenizer
from components.tokens import BATCH, SPLITS, encode_corpus, open_tokens

ROOT = Path(__file__).parents[1]


class Noted(Silent):
    """Keeps metrics and progress."""

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}
        self.seen: list[tuple[float, float]] = []

    def metrics(self, values, step: int = 0) -> None:
        self.figures.update(values)

    def progress(self, done: float, total: float, note: str = "") -> None:
        self.seen.append((done, total))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `corpus`, `tokenizer`, `tokens`; train is several batches long."""
    folder = tmp_path_factory.mktemp("made")
    for part in ("corpus", "tokenizer", "tokens"):
        (folder / part).mkdir()
    sizes = {"train": 2 * BATCH + 7, "validation": 5, "test": BATCH}
    for split, size in sizes.items():
        rows = ({"text": f"{split} {n} é <|endoftext|> " + "so on " * (n % 5)} for n in range(size))
        write_jsonl(folder / "corpus" / f"{split}.jsonl", rows)
    train_tokenizer(Tokenizer(vocab_size=320), folder / "corpus", folder / "tokenizer", Silent())
    encode_corpus(folder / "corpus", folder / "tokenizer", folder / "tokens", Silent())
    return folder


@pytest.fixture
def tokens(made: Path, tmp_path: Path) -> Path:
    """A copy of the token files that a test may damage."""
    for file in (made / "tokens").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


@pytest.mark.parametrize("split", SPLITS)
def test_any_document_is_what_it_is_alone(split: str, made: Path):
    """Special tokens in a text stay text; borders are those of the documents."""
    engine = open_engine(made / "tokenizer")
    numbers, offsets = open_tokens(made / "tokens", split)
    end = read_json(made / "tokens" / "tokens.json")["eos_id"]
    assert isinstance(numbers, np.memmap) and numbers.dtype == np.dtype("<u2")
    assert isinstance(offsets, np.memmap), "read as a whole"
    for n, row in enumerate(read_jsonl(made / "corpus" / f"{split}.jsonl")):
        document = numbers[offsets[n] : offsets[n + 1]].tolist()
        assert document == [*engine.encode(row["text"]).ids, end]
    assert len(offsets) == n + 2
    assert np.count_nonzero(numbers == end) == n + 1


def test_counts_and_determinism(made: Path, tmp_path: Path):
    report = Noted()
    figures = encode_corpus(made / "corpus", made / "tokenizer", tmp_path, report)
    assert folder_hash(tmp_path) == folder_hash(made / "tokens")
    about = read_json(tmp_path / "tokens.json")
    assert about["vocab_size"] == 320 and about["dtype"] == "<u2"
    for split in SPLITS:
        texts = [row["text"] for row in read_jsonl(made / "corpus" / f"{split}.jsonl")]
        assert about["splits"][split] == {
            "tokens": len(open_tokens(tmp_path, split)[0]),
            "documents": len(texts),
            "bytes": sum(len(text.encode()) for text in texts),
        }
        assert figures[f"{split}_tokens"] == about["splits"][split]["tokens"]
    assert set(figures) == {f"{split}_tokens" for split in SPLITS}
    assert report.figures["encoded_tokens_per_second"] > 0
    assert all(0 < done <= total for done, total in report.seen)


def test_a_large_vocabulary_takes_four_bytes(made: Path, tmp_path: Path):
    from tokenizers import Tokenizer as Engine

    engine = Engine.from_file(str(made / "tokenizer" / "tokenizer.json"))
    engine.add_tokens([f"<{n}>" for n in range(1 << 16)])
    (tmp_path / "large").mkdir()
    (tmp_path / "out").mkdir()
    engine.save(str(tmp_path / "large" / "tokenizer.json"))
    encode_corpus(made / "corpus", tmp_path / "large", tmp_path / "out", Silent())
    assert open_tokens(tmp_path / "out", "test")[0].dtype == np.dtype("<u4")


@pytest.mark.parametrize("size", [0, 50, 10_000])
def test_shards_make_the_same_bytes(made: Path, tmp_path: Path, monkeypatch, size: int):
    """A shard for each line, some lines, and all of a small split but several of a large one."""
    monkeypatch.setattr(tokens_module, "SHARD_BYTES", size)
    counted = []

    def spread(work, tokenizer, shards):
        counted.append(len(shards))
        return (work(tokenizer, shard) for shard in shards)

    encode_corpus(made / "corpus", made / "tokenizer", tmp_path, Silent(), spread)
    assert folder_hash(tmp_path) == folder_hash(made / "tokens")
    assert counted[0] > 1 and (size or counted == [2 * BATCH + 7, 5, BATCH])


@pytest.mark.parametrize("change", [lambda b: b[:-2], lambda b: b + b"\0\0", lambda b: b""])
def test_a_damaged_file_is_refused(change, tokens: Path):
    file = tokens / "train.bin"
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(ValueError, match=r"train\.bin has \d+ bytes where .* 'dvc repro'"):
        open_tokens(tokens, "train")


def test_files_that_do_not_belong_together_are_refused(tokens: Path):
    (tokens / "train.offsets.npy").write_bytes((tokens / "test.offsets.npy").read_bytes())
    with pytest.raises(ValueError, match=r"train\.offsets\.npy does not belong"):
        open_tokens(tokens, "train")
    with pytest.raises(ValueError, match="no split 'dev', only test, train, validation"):
        open_tokens(tokens, "dev")
    (tokens / "tokens.json").unlink()
    with pytest.raises(ValueError, match="run 'dvc repro'"):
        open_tokens(tokens, "train")


def test_inputs_that_do_not_fit_are_refused(made: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"has no tokenizer\.json"):
        encode_corpus(made / "corpus", made / "corpus", tmp_path, Silent())
    with pytest.raises(ValueError, match=r"train\.jsonl: no such file"):
        encode_corpus(made / "tokenizer", made / "tokenizer", tmp_path, Silent())
    about = read_json(made / "tokenizer" / "tokenizer.json")
    about["added_tokens"] = []
    about["model"]["vocab"] = {
        key.replace("<|endoftext|>", "<|stop|>"): n for key, n in about["model"]["vocab"].items()
    }
    (tmp_path / "other").mkdir()
    write_json(tmp_path / "other" / "tokenizer.json", about)
    with pytest.raises(ValueError, match=r"has no token <\|endoftext\|>"):
        encode_corpus(made / "corpus", tmp_path / "other", tmp_path, Silent())


def test_the_bench_measures(tmp_path: Path):
    spec = importlib.util.spec_from_file_location("bench_tokens", ROOT / "bench" / "tokens.py")
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    found = bench.measure(bench.synthetic(60_000), vocab_size=320, rounds=1)
    assert found["tokens"] > 10_000 and found["ratio"] > 0
