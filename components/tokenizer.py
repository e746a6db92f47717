"""Byte-level BPE (Sennrich et al. 2016 on bytes, as in GPT-2): any text, no unknown tokens.

The folder is one that `AutoTokenizer` opens, written without importing transformers.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
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
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('unknown role ' + message['role']) }}{% endif %}"
    "<|{{ message['role'] }}|>{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}<|endoftext|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPLITS = ("train", "validation", "test")
BATCH = 256  # documents encoded at once


class Tokenizer(Block):
    """vocab_size: bytes and special tokens included. min_frequency: a merge's least count."""

    vocab_size: int = Field(ge=300, description="256 bytes, the special tokens, and merges")
    min_frequency: int = Field(default=2, ge=1)


def train_tokenizer(
    block: Tokenizer, corpus: Path, out: Path, report: Reporter
) -> dict[str, float]:
    """Train on `train.jsonl` of `corpus`, into `out`: tokenizer files and `statistics.json`.

    A small corpus may give fewer merges than asked for; the statistics say how many.

    Raises:
        ValueError: `corpus` lacks a split, or a text of the validation split does not come back as
            it was.
    """
    for split in SPLITS:
        if not (corpus / f"{split}.jsonl").is_file():
            raise ValueError(f"{corpus / f'{split}.jsonl'}: no such file; run 'dvc repro'")
    engine = _untrained()
    report.progress(0, 2, "merging")
    engine.train_from_iterator(_texts(corpus, "train"), _trainer(block))
    engine.save(str(out / "tokenizer.json"))
    _write_settings(out)
    if engine.get_vocab_size() < block.vocab_size:
        report.params({"vocab_size_reached": engine.get_vocab_size()})
    report.progress(1, 2, "measuring")
    statistics = _measure(open_engine(out), corpus)
    write_json(out / "statistics.json", statistics)
    report.progress(2, 2, f"{statistics['vocab_size']:,} tokens")
    if statistics["round_trip_failures"]:
        raise ValueError(
            f"{statistics['round_trip_failures']} validation texts of {corpus} do not survive "
            "encoding and decoding: the tokenizer would lose text; report this as a bug"
        )
    return {
        "vocab_size": float(statistics["vocab_size"]),
        "bytes_per_token": statistics["bytes_per_token"]["validation"],
        "vocabulary_used": statistics["vocabulary_used"],
    }


def _untrained() -> "tokenizers.Tokenizer":
    from tokenizers import Tokenizer as Engine
    from tokenizers import decoders, models, pre_tokenizers

    engine = Engine(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    return engine


def _trainer(block: Tokenizer) -> "tokenizers.trainers.BpeTrainer":
    from tokenizers import pre_tokenizers, trainers

    return trainers.BpeTrainer(
        vocab_size=block.vocab_size,
        min_frequency=block.min_frequency,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )


def open_engine(folder: Path) -> "tokenizers.Tokenizer":
    """The tokenizer of `folder` for data: special tokens in a text are text, never commands.

    Raises:
        ValueError: `folder` holds no tokenizer.
    """
    from tokenizers import Tokenizer as Engine

    if not (folder / "tokenizer.json").is_file():
        raise ValueError(f"{folder} has no tokenizer.json; run 'dvc repro'")
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


def _batches(corpus: Path, split: str) -> Iterator[list[str]]:
    texts = _texts(corpus, split)
    while batch := list(islice(texts, BATCH)):
        yield batch


def _measure(engine: "tokenizers.Tokenizer", corpus: Path) -> dict:
    """What the tokenizer makes of each split, all of it.

    bytes_per_token: higher is more text in a context. vocabulary_used: share of the tokens that
    occur in train. token_length: how many tokens have so many bytes.
    """
    used: set[int] = set()
    bytes_per_token, failures = {}, 0
    for split in SPLITS:
        tokens = size = 0
        for texts in _batches(corpus, split):
            encoded = [e.ids for e in engine.encode_batch_fast(texts)]
            tokens += sum(map(len, encoded))
            size += sum(len(text.encode()) for text in texts)
            if split == "train":
                used.update(*encoded)
            if split == "validation":
                decoded = engine.decode_batch(encoded, skip_special_tokens=False)
                failures += sum(a != b for a, b in zip(texts, decoded, strict=True))
        bytes_per_token[split] = round(size / max(tokens, 1), 4)
    vocabulary = engine.get_vocab()
    # byte-level: one letter of a token stands for one byte
    lengths = Counter(len(token) for token in vocabulary if token not in SPECIAL)
    return {
        "vocab_size": len(vocabulary),
        "bytes_per_token": bytes_per_token,
        "vocabulary_used": round(len(used) / len(vocabulary), 4),
        "round_trip_failures": failures,
        "token_length": {str(length): lengths[length] for length in sorted(lengths)},
    }
