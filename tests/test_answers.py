"""An answer's text, whole and in pieces, and the names and bytes of its tokens."""

import random
from types import SimpleNamespace

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from components.serving.answers import Choice, chat_logprobs, completion_logprobs, generate
from components.serving.engine import Caller, Sampling, Token
from components.serving.generation import Answer
from components.serving.gone import Gone
from components.serving.pieces import Pieces
from components.tokenizer_kinds import KINDS

END = "<end>"
LETTERS = "aé ß😀\u2028中ü\ufffd"


class Spoken:
    """The part of an engine that is its tokenizer's."""

    def __init__(self, made: Tokenizer) -> None:
        self.tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token=END)
        pieces = Pieces(self.tokenizer)
        self.piece, self.word = pieces.of, pieces.word

    def number(self, word: str) -> int:
        return self.tokenizer.convert_tokens_to_ids(word)

    def encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def answer(self, ids, stop=(), before=None) -> tuple[list[str], Choice]:
        choice = Choice()
        made = (Token(number, -1.0, {number: -1.0}) for number in ids)
        told = list(generate(self, made, Sampling(len(ids) + 1), stop, choice, before))
        return told, choice


def byte_level() -> Spoken:
    """As GPT-2's, Llama 3's or Qwen's: merges that end within characters too."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(["é😀é中", "😀😁 é", "a 中é"] * 9, KINDS["bpe"].learner(275, 2, [END]))
    return Spoken(made)


def byte_fallback() -> Spoken:
    """As Llama 2's, Mistral's or Gemma's."""
    words = [END, "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "▁a", "é"]
    vocabulary = {word: number for number, word in enumerate(words)}
    made = Tokenizer(models.BPE(vocabulary, [("▁", "a")], unk_token="<unk>", byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="never", split=False)
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    made.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)])
    return Spoken(made)


@pytest.fixture(params=[byte_level, byte_fallback])
def spoken(request):
    return request.param()


def some_stop(draw: random.Random, text: str) -> list[str]:
    """A part of the text or what is like one, or none."""
    place = draw.randrange(max(1, len(text)))
    part = text[place : place + draw.randint(1, 3)]
    return [part + draw.choice(["", "", "x"])] if part and draw.random() < 0.7 else []


def test_an_answer_streamed_is_the_answer_whole(spoken):
    """Over random tokens, of which most are no characters, with and without stop strings."""
    draw, size = random.Random(1), len(spoken.tokenizer)
    for _ in range(1000):
        ids = [draw.randrange(size) for _ in range(draw.randrange(30))]
        _, plain = spoken.answer(ids)
        stop = some_stop(draw, plain.text)
        told, choice = spoken.answer(ids, stop)
        assert "".join(told) == choice.text
        cut = min((plain.text.find(s) for s in stop if s in plain.text), default=None)
        assert choice.text == plain.text[:cut]


def test_every_text_comes_back_from_its_tokens(spoken):
    """Bytes of a character were lost, and what stood behind them."""
    draw = random.Random(2)
    for _ in range(1000):
        text = "".join(draw.choices(LETTERS, k=draw.randint(1, 12)))
        (before,) = spoken.encode("a")
        stop = some_stop(draw, text)
        told, choice = spoken.answer(spoken.encode(text), stop, before)
        cut = min((text.find(s) for s in stop if s in text), default=None)
        assert "".join(told) == choice.text == text[:cut]


def test_text_is_told_as_soon_as_it_is_certain(spoken):
    told, _ = spoken.answer(spoken.encode("ab 😀éb"))
    assert len(told) > 4 and told[0] == "a"


def test_a_first_token_is_noted_when_it_comes():
    """It was noted with the first text that was certain, and at the end of an answer of none."""
    answer, noted = Answer.__new__(Answer), []
    answer.story = SimpleNamespace(first_token=lambda: noted.append(True))
    answer.inner, answer.ids, answer.sampling, answer.caller = "base", [1], Sampling(9), Caller()
    answer.body = SimpleNamespace(stops=["abc"])
    pieces, seen = [b"a", b"b", b"d"], []

    def made(*_):
        for number in range(len(pieces)):
            seen.append(len(noted))
            yield Token(number, 0.0, {})

    answer.engine = SimpleNamespace(generate=made, piece=lambda token, _: pieces[token])
    told = list(answer._generate(0, Choice(), Gone()))
    assert told == [("abd", 3), ("", 3), (None, 3)] and seen == [0, 1, 2]
    pieces.clear()
    noted.clear()
    assert list(answer._generate(0, Choice(), Gone())) == [("", 0), (None, 0)] and not noted


def test_a_byte_level_text_is_what_the_library_decodes():
    spoken, draw = byte_level(), random.Random(3)
    for _ in range(300):
        ids = [draw.randrange(len(spoken.tokenizer)) for _ in range(20)]
        expected = spoken.tokenizer.decode(ids, skip_special_tokens=True)
        assert spoken.answer(ids)[1].text == expected


def test_a_space_is_lost_at_the_beginning_of_a_text_alone():
    spoken = byte_fallback()
    word, end = spoken.number("▁a"), spoken.number(END)
    assert spoken.answer([word, word], before=word)[1].text == " a a"
    assert spoken.answer([word, end, word], before=end)[1].text == "a a"
    assert spoken.answer([word, word])[1].text == "a a"


@pytest.mark.parametrize(("kind", "text"), [("words", "a b a"), ("characters", "a b")])
def test_words_go_on_behind_the_prompt(kind, text):
    made = KINDS[kind].untrained()
    made.train_from_iterator([text] * 9, KINDS[kind].learner(20, 1, [END, "<unk>"]))
    spoken = Spoken(made)
    before, *ids = spoken.encode(text)
    told, choice = spoken.answer(ids, before=before)
    assert "".join(told) == choice.text == text[1:]


@pytest.mark.parametrize(
    ("pieces", "places"),
    [
        ([b"ab", b"c"], [0, 2]),
        ([b"ab", b"\xc3", b"\xa9", b"c"], [0, 2, 2, 3]),  # those of one character begin with it
        ([b"ab", b"\xc3", b"c"], [0, 2, 3]),  # it was none
        ([b"\xef", b"\xbf", b"\xbd", b"c"], [0, 0, 0, 1]),  # U+FFFD itself
    ],
)
def test_tokens_of_one_character_begin_with_it(pieces, places):
    class Given:
        def piece(self, token, before):
            return pieces[token]

    choice = Choice()
    made = (Token(number, 0.0, {}) for number in range(len(pieces)))
    list(generate(Given(), made, Sampling(9), [], choice))
    assert choice.offsets == places


def test_a_part_of_a_character_has_its_own_bytes_and_name(spoken):
    """Those of U+FFFD were told, and of many alternatives one was left."""
    first, *_ = spoken.encode("ü")
    other, *_ = spoken.encode("中") if spoken.piece(first, None) == b"\xc3" else spoken.encode("é")
    end = spoken.number(END)
    _, choice = spoken.answer([first])
    choice.tokens = [Token(first, -0.5, {other: -0.1, end: -0.2})]
    told = completion_logprobs(spoken, choice)
    assert told["tokens"] == ["bytes:\\xc3"]
    assert told["top_logprobs"][0].keys() >= {"bytes:\\xc3", END}
    assert len(told["top_logprobs"][0]) == 3 and told["top_logprobs"][0]["bytes:\\xc3"] == -0.5
    entry = chat_logprobs(spoken, choice)["content"][0]
    assert (entry["token"], entry["bytes"]) == ("bytes:\\xc3", [0xC3])
    assert entry["top_logprobs"][1] == {"token": END, "logprob": -0.2, "bytes": list(END.encode())}
