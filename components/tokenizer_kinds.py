"""The kinds of tokenizers, from words to bytes: what each cuts a text into, and how it learns.

All of them are pipelines of the `tokenizers` library: a pre-tokenizer cuts a text into pieces that
no token crosses, a model cuts pieces into tokens, and a decoder puts tokens together again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import tokenizers

KindName = Literal["bpe", "whitespace", "words", "characters", "wordpiece", "unigram"]
UNKNOWN = "<unk>"  # WikiText-2 writes it for its own rare words
CONTINUED = "##"  # WordPiece: goes on within a word
SPACE = "▁"  # Unigram: stands for the space before a word
COMMAND = "<|"  # how every special token begins
RARE_STEP = 0.0001  # between the log probabilities of characters that Unigram must keep
DIGITS = 4  # of a log probability


@dataclass(frozen=True)
class Kind:
    """How a tokenizer of a kind is put together.

    learner: the trainer for a vocabulary size, a least count and special tokens. size: bytes of
    text that a token of the vocabulary stands for. unknown: whether it has a token for what is not
    in its vocabulary; a kind without one loses nothing.

    The library hashes with a seed of each process, which shows in what two kinds learn; the same
    text must give the same bytes. first: of the characters of a text, the pieces that the
    vocabulary begins with, lest they be numbered at random. settled: the tokenizer as JSON, and its
    special tokens, to the same without what is left of chance, and without gaps in its numbers.
    """

    untrained: Callable[[], "tokenizers.Tokenizer"]
    learner: Callable[[int, int, list[str]], "tokenizers.trainers.Trainer"]
    size: Callable[[str], int]
    least: int  # of vocab_size, the special tokens included
    unknown: bool = True
    first: Callable[[list[str]], list[str]] | None = None
    settled: Callable[[dict[str, Any], list[str]], dict[str, Any]] | None = None


def _engine(
    model: "tokenizers.models.Model",
    cut: "tokenizers.pre_tokenizers.PreTokenizer",
    join: "tokenizers.decoders.Decoder | None",
) -> "tokenizers.Tokenizer":
    from tokenizers import Tokenizer as Engine

    engine = Engine(model)
    engine.pre_tokenizer = cut
    if join is not None:  # else tokens are joined by spaces
        engine.decoder = join
    return engine


def _bpe() -> "tokenizers.Tokenizer":
    """Byte-level BPE (Sennrich et al. 2016 on bytes, as in GPT-2)."""
    from tokenizers import decoders, models, pre_tokenizers

    cut = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return _engine(models.BPE(), cut, decoders.ByteLevel())


def _whitespace() -> "tokenizers.Tokenizer":
    """Whatever stands between white space, but for what would be a special token."""
    from tokenizers import models, pre_tokenizers

    cut = [_commands_apart(), pre_tokenizers.WhitespaceSplit()]
    return _engine(models.WordLevel(unk_token=UNKNOWN), pre_tokenizers.Sequence(cut), None)


def _words() -> "tokenizers.Tokenizer":
    """Runs of letters and digits, and runs of punctuation; the text's own `<unk>` stays whole."""
    from tokenizers import Regex, models, pre_tokenizers

    pattern = Regex(rf"{UNKNOWN}|\w+|[^\w\s]+?(?={UNKNOWN}|\w|\s|\z)")
    cut = pre_tokenizers.Split(pattern, "removed", invert=True)
    return _engine(models.WordLevel(unk_token=UNKNOWN), cut, None)


def _characters() -> "tokenizers.Tokenizer":
    from tokenizers import Regex, decoders, models, pre_tokenizers

    cut = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    return _engine(models.WordLevel(unk_token=UNKNOWN), cut, decoders.Fuse())


def _wordpiece() -> "tokenizers.Tokenizer":
    """WordPiece as in BERT (Devlin et al. 2019, section 3), case kept."""
    from tokenizers import decoders, models, pre_tokenizers

    model = models.WordPiece(unk_token=UNKNOWN)
    return _engine(model, pre_tokenizers.BertPreTokenizer(), decoders.WordPiece(CONTINUED))


def _unigram() -> "tokenizers.Tokenizer":
    """The unigram language model of Kudo (2018): of all ways to cut, the most probable one."""
    from tokenizers import decoders, models, pre_tokenizers

    space = {"replacement": SPACE, "prepend_scheme": "first"}
    cut = [_commands_apart(), pre_tokenizers.Metaspace(**space)]
    return _engine(models.Unigram(), pre_tokenizers.Sequence(cut), decoders.Metaspace(**space))


def _commands_apart() -> "tokenizers.pre_tokenizers.PreTokenizer":
    """Special tokens are in the vocabulary, and a text that holds one must not give a command."""
    from tokenizers import pre_tokenizers

    return pre_tokenizers.Split(COMMAND, "isolated")


def _learn_bpe(vocab_size: int, min_frequency: int, special: list[str]) -> object:
    from tokenizers import pre_tokenizers, trainers

    return trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )


def _learn_words(vocab_size: int, min_frequency: int, special: list[str]) -> object:
    from tokenizers import trainers

    return trainers.WordLevelTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=special,
        show_progress=False,
    )


def _numbered(told: dict[str, Any], special: list[str]) -> dict[str, Any]:
    """Numbers without gaps, special tokens first. A text's own `<unk>` is learned as a word too and
    takes a second number, so that the last one would be as large as the vocabulary.
    """
    words = sorted(told["model"]["vocab"].items(), key=lambda pair: pair[1])
    ordered = [*special, *(word for word, _ in words if word not in special)]
    numbers = {word: number for number, word in enumerate(ordered)}
    added = [{**token, "id": numbers[token["content"]]} for token in told["added_tokens"]]
    added.sort(key=lambda token: token["id"])
    return {**told, "added_tokens": added, "model": {**told["model"], "vocab": numbers}}


def _learn_wordpiece(vocab_size: int, min_frequency: int, special: list[str]) -> object:
    from tokenizers import trainers

    return trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=special,
        continuing_subword_prefix=CONTINUED,
        show_progress=False,
    )


def _continuations(characters: list[str]) -> list[str]:
    """Of those that go on within a word, as punctuation and white space do not."""
    from tokenizers import pre_tokenizers

    cut = pre_tokenizers.BertPreTokenizer()
    inner = [c for c in characters if cut.pre_tokenize_str(f"a{c}")[0][0] == f"a{c}"]
    return [CONTINUED + character for character in inner]


def _ordinary(told: dict[str, Any], special: list[str]) -> dict[str, Any]:
    """The trainer takes `_continuations` as special tokens, and to a text they are ordinary."""
    known = set(special)
    return {**told, "added_tokens": [t for t in told["added_tokens"] if t["content"] in known]}


def _ranked(told: dict[str, Any], special: list[str]) -> dict[str, Any]:
    """Pieces by their log probability. Characters that the text holds and no piece has kept get the
    least one and a step each, in any order: here none gets a step. Sums over threads differ in the
    last digits, which rounding drops.
    """
    pieces = told["model"]["vocab"][len(special) :]
    least = min(score for _, score in pieces)
    kept = least + RARE_STEP * sum(len(piece) == 1 for piece, _ in pieces)
    settled = [
        (round(least if len(piece) == 1 and score < kept else score, DIGITS), piece)
        for piece, score in pieces
    ]
    settled.sort(key=lambda pair: (-pair[0], pair[1]))
    vocabulary = told["model"]["vocab"][: len(special)] + [[p, score] for score, p in settled]
    return {**told, "model": {**told["model"], "vocab": vocabulary}}


def _learn_unigram(vocab_size: int, min_frequency: int, special: list[str]) -> object:
    """`min_frequency` has no meaning here: the likelihood of the text decides what stays."""
    from tokenizers import trainers

    return trainers.UnigramTrainer(
        vocab_size=vocab_size, special_tokens=special, unk_token=UNKNOWN, show_progress=False
    )


def _bytes(token: str) -> int:
    return len(token.encode())


KINDS: dict[KindName, Kind] = {
    # one letter of a byte-level token stands for one byte; 256 of them and some merges
    "bpe": Kind(_bpe, _learn_bpe, len, least=300, unknown=False),
    "whitespace": Kind(_whitespace, _learn_words, _bytes, least=8, settled=_numbered),
    "words": Kind(_words, _learn_words, _bytes, least=8, settled=_numbered),
    "characters": Kind(_characters, _learn_words, _bytes, least=8, settled=_numbered),
    "wordpiece": Kind(
        _wordpiece,
        _learn_wordpiece,
        lambda token: _bytes(token.removeprefix(CONTINUED)),
        least=8,
        first=_continuations,
        settled=_ordinary,
    ),
    "unigram": Kind(
        _unigram,
        _learn_unigram,
        lambda token: _bytes(token.replace(SPACE, " ")),
        least=8,
        settled=_ranked,
    ),
}
