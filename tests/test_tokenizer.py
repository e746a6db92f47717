"""The tokenizer: any text survives, no text is a command, AutoTokenizer agrees."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from components.lineage import folder_hash, read_json, read_jsonl, write_jsonl
from components.reporter import Silent
from components.tokenizer import SPECIAL, Tokenizer, open_engine, train_tokenizer
from components.tokenizer_kinds import KINDS, UNKNOWN
from components.tokenizer_measures import SENTENCE, measure_tokenizer
from components.tokens import encode_corpus, open_tokens

ROOT = Path(__file__).parents[1]
# of the folder that kind bpe makes of `write_corpus`: other bytes would retrain every base
BPE_CONTENT = "18909b0f47d302771b05058b97e2e0991cdd17b6311f63d87480bd3b4abb9109"
SIZES = {"bpe": 320, "wordpiece": 160}  # others 60
LOSSY = [name for name, kind in KINDS.items() if kind.unknown]
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


@pytest.fixture(scope="module")
def kinds(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A trained folder of each kind, with its measures."""
    made = {}
    for kind in KINDS:
        made[kind] = tmp_path_factory.mktemp(kind)
        size = SIZES.get(kind, 60)
        train_tokenizer(Tokenizer(kind=kind, vocab_size=size), corpus, made[kind], Silent())
        measure_tokenizer(made[kind], corpus, made[kind], Silent())
    return made


def test_the_bytes_of_bpe_stay(folder: Path):
    assert folder_hash(folder) == BPE_CONTENT


@pytest.mark.parametrize(
    "keys",
    [
        {"vocab_size": 299},
        {"vocab_size": 320, "min_frequency": 0},
        {"vocab_size": 7, "kind": "words"},
        {"vocab_size": 100, "kind": "unigram", "min_frequency": 3},
    ],
)
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


def tokens_of(folder: Path, text: str) -> list[str]:
    return open_engine(folder).encode(text).tokens


def test_each_kind_cuts_as_its_name_says(kinds: dict[str, Path]):
    text = "the film, clever"
    assert tokens_of(kinds["whitespace"], text) == ["the", UNKNOWN, "clever"]  # "film," is new
    assert tokens_of(kinds["words"], text) == ["the", "film", UNKNOWN, "clever"]
    assert tokens_of(kinds["characters"], "a film.") == ["a", " ", "f", "i", "l", "m", "."]
    pieces = tokens_of(kinds["wordpiece"], "filmclever")
    assert pieces[0] == "film" and all(piece.startswith("##") for piece in pieces[1:])
    assert "".join(tokens_of(kinds["unigram"], text)).replace("▁", " ").strip().startswith("the f")


def test_a_texts_own_unknown_is_the_unknown_token(kinds: dict[str, Path]):
    """WikiText-2 writes `<unk>` for its rare words: no word of the language is spelt so."""
    for kind in ("whitespace", "words"):
        assert tokens_of(kinds[kind], "the <unk> was") == ["the", UNKNOWN, "was"]
    assert tokens_of(kinds["words"], "the.<unk>.<unk>")[:3] == ["the", ".", UNKNOWN]


@pytest.mark.parametrize("kind", ["whitespace", "words", "characters"])
def test_a_texts_own_unknown_leaves_no_gap_in_the_numbers(kind: str, corpus: Path, tmp_path: Path):
    """It was learned as a word and took a second number: the last one was as large as the
    vocabulary, which no matrix with a row for each token has.
    """
    for split in ("train", "validation", "test"):
        write_jsonl(
            tmp_path / f"{split}.jsonl", [{"text": "the <unk> was <unk> and the <unk>"}] * 3
        )
    train_tokenizer(Tokenizer(kind=kind, vocab_size=60), tmp_path, tmp_path, Silent())
    vocabulary = open_engine(tmp_path).get_vocab()
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    assert vocabulary[UNKNOWN] == len(SPECIAL)


@pytest.mark.parametrize("kind", LOSSY)
def test_text_gives_no_commands_to_any_kind(kind: str, kinds: dict[str, Path]):
    """A vocabulary holds the special tokens; a text's own must be cut as any other text."""
    engine = open_engine(kinds[kind])
    special = {engine.token_to_id(token) for token in SPECIAL}
    assert len(special) == len(SPECIAL) and None not in special
    for text in [*ODD, "<|endoftext|>", "a <|endoftext|> b", "▁<|pad|>"]:
        assert not special & set(engine.encode(text).ids), text


@pytest.mark.parametrize("kind", LOSSY)
def test_autotokenizer_opens_each_kind(kind: str, kinds: dict[str, Path]):
    from transformers import AutoTokenizer

    opened, engine = AutoTokenizer.from_pretrained(kinds[kind]), open_engine(kinds[kind])
    assert opened.unk_token == UNKNOWN and len(opened) == engine.get_vocab_size()
    for text in ["the film was good, and never dull.", "naïve 東京", "the <unk> was"]:
        if kind in ("whitespace", "words") or UNKNOWN not in text:
            assert opened(text, add_special_tokens=False)["input_ids"] == engine.encode(text).ids


@pytest.mark.parametrize("kind", KINDS)
def test_the_measures_are_those_of_a_plain_count(kind: str, kinds: dict[str, Path], corpus: Path):
    texts = [row["text"] for row in read_jsonl(corpus / "validation.jsonl")]
    engine = open_engine(kinds[kind])
    encoded = [engine.encode(text) for text in texts]
    tokens = sum(len(e.ids) for e in encoded)
    words = sum(len(text.split()) for text in texts)
    unknown = sum(n == engine.token_to_id(UNKNOWN) for e in encoded for n in e.ids)
    back = [engine.decode(e.ids, skip_special_tokens=False) for e in encoded]
    found = read_json(kinds[kind] / "measures.json")["splits"]["validation"]
    assert found["documents"] == len(texts)
    assert found["tokens_per_word"]["score"] == pytest.approx(tokens / words)
    size = sum(len(text.encode()) for text in texts)
    assert found["bytes_per_token"]["score"] == pytest.approx(size / tokens)
    assert found["unknown_tokens"]["score"] == pytest.approx(unknown / tokens)
    failed = sum(a != b for a, b in zip(texts, back, strict=True))
    assert found["round_trip_failures"]["score"] == pytest.approx(failed / len(texts))
    for name in ("tokens_per_word", "unknown_tokens", "unknown_words"):
        low, high = found[name]["interval"]
        assert low <= found[name]["score"] <= high
    if kind == "bpe":
        assert unknown == failed == 0


def test_unknown_words_are_counted_once(kinds: dict[str, Path], tmp_path: Path):
    """A word of three unknown characters is one unknown word; the text's own are told apart."""
    rows = [{"text": "the 東京都 film <unk> was zz,"}]
    for split in ("validation", "test"):
        write_jsonl(tmp_path / f"{split}.jsonl", rows)
    counted = {}
    for kind in ("characters", "words"):
        measure_tokenizer(kinds[kind], tmp_path, tmp_path, Silent())
        counted[kind] = read_json(tmp_path / "measures.json")["splits"]["test"]
    assert counted["words"]["unknown_words"]["score"] == pytest.approx(3 / 6)
    assert counted["words"]["unknown_tokens"]["score"] == pytest.approx(4 / 7)  # with ","
    assert counted["words"]["own_unknown_tokens"]["score"] == pytest.approx(1 / 7)
    assert counted["characters"]["own_unknown_tokens"]["score"] == 0


def test_every_kind_cuts_the_sentence(kinds: dict[str, Path]):
    for folder in kinds.values():
        told = read_json(folder / "measures.json")["sentence"]
        assert told["text"] == SENTENCE
        ends = 0
        for token in told["tokens"]:
            assert ends <= token["begin"] <= token["end"] <= len(SENTENCE)
            assert not SENTENCE[ends : token["begin"]].strip()  # nothing but white space is lost
            ends = token["end"]
        assert ends == len(SENTENCE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_corpus_is_encoded_by_each_kind(kind, kinds: dict[str, Path], corpus, tmp_path: Path):
    encode_corpus(corpus, kinds[kind], tmp_path, Silent())
    tokens, offsets = open_tokens(tmp_path, "train")
    engine = open_engine(kinds[kind])
    first = next(iter(read_jsonl(corpus / "train.jsonl")))["text"]
    document = tokens[offsets[0] : offsets[1]].tolist()
    assert document == [*engine.encode(first).ids, engine.token_to_id(SPECIAL[0])]


@pytest.mark.parametrize("kind", ["words", "wordpiece", "unigram"])
def test_each_kind_is_the_same_in_another_process(kind, kinds, corpus: Path, tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; from components.reporter import Silent\n"
        "from components.tokenizer import Tokenizer, train_tokenizer\n"
        "block = Tokenizer(kind=sys.argv[1], vocab_size=int(sys.argv[2]))\n"
        "train_tokenizer(block, *map(Path, sys.argv[3:]), Silent())"
    )
    size = str(SIZES.get(kind, 60))
    command = [sys.executable, "-c", code, kind, size, str(corpus), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in ("tokenizer.json", "statistics.json"):
        assert (tmp_path / name).read_bytes() == (kinds[kind] / name).read_bytes()


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_rare_characters_are_ranked_alike_in_every_process(kind: str, tmp_path: Path):
    """The library's hash has another seed in each process. By it WordPiece's inner characters were
    numbered, signs that are no punctuation among them, and Unigram's rare ones had their scores.
    """
    rare = [chr(n) for n in range(0xA1, 0x17F) if chr(n).isprintable()]
    rows = [{"text": f"word{sign}word good{sign}word {sign}x"} for sign in rare]
    for split in ("train", "validation", "test"):
        write_jsonl(tmp_path / f"{split}.jsonl", rows)
    code = (
        "import sys; from pathlib import Path; from components.reporter import Silent\n"
        "from components.tokenizer import Tokenizer, train_tokenizer\n"
        "block = Tokenizer(kind=sys.argv[1], vocab_size=600)\n"
        "train_tokenizer(block, *map(Path, sys.argv[2:]), Silent())"
    )
    made = set()
    for number in range(3):
        out = tmp_path / str(number)
        out.mkdir()
        command = [sys.executable, "-c", code, kind, str(tmp_path), str(out)]
        subprocess.run(command, cwd=ROOT, check=True)
        made.add((out / "tokenizer.json").read_bytes())
    assert len(made) == 1


def test_lower_case_is_one_vocabulary_entry(corpus: Path, tmp_path: Path):
    block = Tokenizer(kind="words", vocab_size=60, lowercase=True)
    train_tokenizer(block, corpus, tmp_path, Silent())
    assert tokens_of(tmp_path, "The FILM") == ["the", "film"]
    assert not Tokenizer(vocab_size=320, lowercase=True).lossless


def test_an_empty_vocabulary_is_refused(corpus: Path, tmp_path: Path):
    block = Tokenizer(kind="whitespace", vocab_size=60, min_frequency=10_000)
    with pytest.raises(ValueError, match=r"gives an empty vocabulary.*lower min_frequency"):
        train_tokenizer(block, corpus, tmp_path, Silent())
