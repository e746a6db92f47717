"""Byte-level BPE (Sennrich et al. 2016 on bytes, as in GPT-2): any text, no unknown tokens.

The folder is one that `AutoTokenizer` opens, written without importing transformers.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from components.block import Block
from components.lineage import read_jsonl, write_json
from components.reporter import Reporter

if TYPE_CHECKING:
    import tokenizers

END, PAD, USER, ASSISTANT, SYSTEM = (
    "<|endoftext|>",
    "<|pad|>",
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
)
SPECIAL = (END, PAD, USER, ASSISTANT, SYSTEM)
BYTES = 256
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}<|endoftext|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPLITS = ("train", "validation", "test")
MEASURED_DOCUMENTS = 2000  # of a split: bytes per token moves by less than 1 % beyond


class Tokenizer(Block):
    """vocab_size: bytes and special tokens included. min_frequency: a merge's least count."""

    vocab_size: int = Field(ge=BYTES + len(SPECIAL))
    min_frequency: int = Field(default=2, ge=1)


def train_tokenizer(
    block: Tokenizer, corpus: Path, out: Path, report: Reporter
) -> dict[str, float]:
    """Train on `train.jsonl` of `corpus`, into `out`: tokenizer files and `statistics.json`.

    A small corpus may give fewer merges than asked for; the statistics say how many.

    Raises:
        ValueError: a text of the validation split does not come back as it was.
    """
    from tokenizers import Tokenizer as Engine
    from tokenizers import decoders, models, pre_tokenizers, trainers

    engine = Engine(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=block.vocab_size,
        min_frequency=block.min_frequency,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    report.progress(0, 2, "merging")
    engine.train_from_iterator(_texts(corpus, "train"), trainer)
    engine.save(str(out / "tokenizer.json"))
    _write_settings(out)
    report.progress(1, 2, "measuring")
    statistics = _measure(engine, corpus)
    write_json(out / "statistics.json", statistics)
    report.progress(2, 2)
    if statistics["round_trip_failures"]:
        raise ValueError(
            f"{statistics['round_trip_failures']} validation texts of {corpus} do not survive "
            "encoding and decoding: the tokenizer would lose text"
        )
    return {
        "vocab_size": float(statistics["vocab_size"]),
        "bytes_per_token": statistics["bytes_per_token"]["validation"],
        "vocabulary_used": statistics["vocabulary_used"],
    }


def open_engine(folder: Path) -> "tokenizers.Tokenizer":
    """The tokenizer of `folder` for data: special tokens in a text are text, never commands."""
    from tokenizers import Tokenizer as Engine

    engine = Engine.from_file(str(folder / "tokenizer.json"))
    engine.encode_special_tokens = True
    return engine


def _texts(corpus: Path, split: str) -> Iterator[str]:
    return (row["text"] for row in read_jsonl(corpus / f"{split}.jsonl"))


def _write_settings(out: Path) -> None:
    special = {"bos_token": END, "eos_token": END, "pad_token": PAD}
    write_json(out / "special_tokens_map.json", special)
    write_json(
        out / "tokenizer_config.json",
        {
            **special,
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "add_prefix_space": False,
            "chat_template": CHAT_TEMPLATE,
        },
    )


def _measure(engine: "tokenizers.Tokenizer", corpus: Path) -> dict:
    engine.encode_special_tokens = True
    used: set[int] = set()
    bytes_per_token, failures = {}, 0
    for split in SPLITS:
        texts = [t for t, _ in zip(_texts(corpus, split), range(MEASURED_DOCUMENTS), strict=False)]
        encoded = [e.ids for e in engine.encode_batch_fast(texts)]
        tokens = sum(map(len, encoded))
        size = sum(len(text.encode()) for text in texts)
        bytes_per_token[split] = round(size / max(tokens, 1), 4)
        if split == "train":
            used.update(*encoded)
        if split == "validation":
            decoded = engine.decode_batch(encoded, skip_special_tokens=False)
            failures = sum(a != b for a, b in zip(texts, decoded, strict=True))
    vocabulary = engine.get_vocab()
    lengths: dict[str, int] = {}
    for token, number in vocabulary.items():
        if number >= len(SPECIAL):  # byte-level: one letter of a token stands for one byte
            lengths[str(len(token))] = lengths.get(str(len(token)), 0) + 1
    return {
        "vocab_size": len(vocabulary),
        "bytes_per_token": bytes_per_token,
        "vocabulary_used": round(len(used) / len(vocabulary), 4),
        "round_trip_failures": failures,
        "token_length": dict(sorted(lengths.items(), key=lambda item: int(item[0]))),
    }
