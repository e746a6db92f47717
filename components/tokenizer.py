"""Tokenizers: trained on a corpus, into a folder that `AutoTokenizer` opens.

It is written without importing transformers. What the kinds are stands in `tokenizer_kinds`.
"""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from components.block import Block
from components.lineage import read_jsonl, write_json
from components.reporter import Reporter
from components.splits import SPLITS, document
from components.tokenizer_kinds import KINDS, UNKNOWN, Kind, KindName

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
BATCH = 256  # documents encoded at once


class Tokenizer(Block):
    """kind: bpe loses nothing; the others have an unknown token. vocab_size: at most so many, the
    special tokens included. min_frequency: the least count of a merge or a word. lowercase: read
    all text so; what a tokenizer decodes is then in lower case.
    """

    kind: KindName = "bpe"
    vocab_size: int = Field(ge=1, description="of bpe 300 or more: 256 bytes, special ones, merges")
    min_frequency: int = Field(default=2, ge=1)
    lowercase: bool = False

    @model_validator(mode="after")
    def _fits_kind(self) -> "Tokenizer":
        least = KINDS[self.kind].least
        if self.vocab_size < least:
            raise ValueError(
                f"vocab_size {self.vocab_size} of kind {self.kind} is less than {least}"
            )
        if self.kind == "unigram" and "min_frequency" in self.model_fields_set:
            raise ValueError("min_frequency has no meaning for kind unigram; drop the key")
        return self

    @property
    def lossless(self) -> bool:
        """Whether every text comes back as it was."""
        return not KINDS[self.kind].unknown and not self.lowercase


class EmptyVocabulary(ValueError):
    """A text has no token often enough. read: the files that it stands in."""

    def __init__(self, read: str, least: int) -> None:
        super().__init__(
            f"{read} gives an empty vocabulary: nothing in it is there {least} times; lower "
            "min_frequency, or give it more text"
        )


def train_tokenizer(
    block: Tokenizer, corpus: Path, out: Path, report: Reporter
) -> dict[str, float]:
    """Train on `train.jsonl` of `corpus`, into `out`: tokenizer files and `statistics.json`.

    A small corpus may give fewer tokens than asked for; the statistics say how many. Texts that do
    not come back are counted there.

    Raises:
        ValueError: `corpus` lacks a split, gives no vocabulary, or a text of the validation split
            does not come back as it was from a tokenizer that loses nothing.
    """
    for split in SPLITS:
        if not (corpus / f"{split}.jsonl").is_file():
            raise ValueError(f"{corpus / f'{split}.jsonl'}: no such file; run 'dvc repro'")
    kind = KINDS[block.kind]
    report.progress(0, 2, "training")
    engine = _trained(block, kind, corpus)
    engine.save(str(out / "tokenizer.json"))
    _write_settings(out, kind)
    if engine.get_vocab_size() < block.vocab_size:
        report.params({"vocab_size_reached": engine.get_vocab_size()})
    report.progress(1, 2, "measuring")
    statistics = _measure(open_engine(out), kind, corpus)
    write_json(out / "statistics.json", statistics)
    report.progress(2, 2, f"{statistics['vocab_size']:,} tokens")
    if block.lossless and statistics["round_trip_failures"]:
        raise ValueError(
            f"{statistics['round_trip_failures']} validation texts of {corpus} do not survive "
            "encoding and decoding: the tokenizer would lose text; report this as a bug"
        )
    return {
        "vocab_size": float(statistics["vocab_size"]),
        "bytes_per_token": statistics["bytes_per_token"]["validation"],
        "vocabulary_used": statistics["vocabulary_used"],
    }


def _trained(block: Tokenizer, kind: Kind, corpus: Path) -> "tokenizers.Tokenizer":
    special = [*SPECIAL, UNKNOWN] if kind.unknown else list(SPECIAL)
    engine = kind.untrained()
    if block.lowercase:
        from tokenizers import normalizers

        engine.normalizer = normalizers.Lowercase()
    first = kind.first(_characters(engine, corpus)) if kind.first else []
    learner = kind.learner(block.vocab_size, block.min_frequency, [*special, *first])
    engine.train_from_iterator(texts_of(corpus, "train"), learner)
    if kind.settled:
        engine = engine.from_str(json.dumps(kind.settled(json.loads(engine.to_str()), special)))
    if engine.get_vocab_size() <= len(special):
        raise EmptyVocabulary(str(corpus / "train.jsonl"), block.min_frequency)
    return engine


def _characters(engine: "tokenizers.Tokenizer", corpus: Path) -> list[str]:
    """Those of train, as the tokenizer sees them, in order."""
    seen: set[str] = set()
    for text in texts_of(corpus, "train"):
        seen.update(engine.normalizer.normalize_str(text) if engine.normalizer else text)
    return sorted(seen)


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


def texts_of(corpus: Path, split: str) -> Iterator[str]:
    """The documents of a split, one at a time; of pairs both sides."""
    return (document(row) for row in read_jsonl(corpus / f"{split}.jsonl"))


def _write_settings(out: Path, kind: Kind) -> None:
    special = {"bos_token": END, "eos_token": END, "pad_token": PAD}
    if kind.unknown:
        special["unk_token"] = UNKNOWN
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
    texts = texts_of(corpus, split)
    while batch := list(islice(texts, BATCH)):
        yield batch


def _measure(engine: "tokenizers.Tokenizer", kind: Kind, corpus: Path) -> dict:
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
    special = (*SPECIAL, UNKNOWN) if kind.unknown else SPECIAL
    lengths = Counter(kind.size(token) for token in vocabulary if token not in special)
    return {
        "vocab_size": len(vocabulary),
        "bytes_per_token": bytes_per_token,
        "vocabulary_used": round(len(used) / len(vocabulary), 4),
        "round_trip_failures": failures,
        "token_length": {str(length): lengths[length] for length in sorted(lengths)},
    }
