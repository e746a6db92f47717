"""Prompt and answer as tokens: what a tokenizer gives to both together, whatever its kind."""

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from components.adapters.encoding import as_answer, as_text, opened, overflows, pairs_of, room
from components.models import llama
from components.padding import padded
from tests.tiny_models import TEXTS

SPACE = "▁"
ENDS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}
PAIRS = [
    ("the film was", " good"),
    ("the film was a . it was", " a good plot ."),
    ("the plot (", "b) was c"),
    ("the cast was\n", "a ."),
    ("the plot was e .", "\n\nthe cast"),
]


def llama_2() -> PreTrainedTokenizerFast:
    """In the form of Llama 2's and Mistral's: a normaliser puts a space before every text."""
    engine = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    engine.normalizer = normalizers.Sequence(
        [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
    )
    engine.pre_tokenizer = pre_tokenizers.Split(SPACE, "merged_with_next")  # while it learns
    known = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=known, show_progress=False)
    engine.train_from_iterator([*TEXTS, "a good plot", "( b )"], trainer)
    engine.pre_tokenizer = None
    engine.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return PreTrainedTokenizerFast(tokenizer_object=engine, **ENDS)


def metaspace() -> PreTrainedTokenizerFast:
    """As Llama 2's is converted today: a space before a text that begins without one."""
    before = llama_2()
    engine = before.backend_tokenizer
    engine.normalizer = normalizers.Replace("\t", " ")
    engine.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme="first", split=False)
    return PreTrainedTokenizerFast(tokenizer_object=engine, **ENDS)


@pytest.fixture(params=["bpe", "llama_2", "metaspace"])
def tokenizer(request, folders):
    made = {"llama_2": llama_2, "metaspace": metaspace}
    if request.param in made:
        return made[request.param]()
    return AutoTokenizer.from_pretrained(folders["base"])


@pytest.fixture
def model(tokenizer):
    return llama.build(llama.Model(layers=1, width=16, heads=2, context=40), tokenizer, seed=0)


def test_apart_they_are_what_they_are_together(model, tokenizer):
    """Behind a prompt an answer once began with one more space, which no text has there."""
    prompts, answers = zip(*PAIRS, strict=True)
    for (start, target), prompt, answer in zip(
        pairs_of(model, tokenizer, prompts, answers), prompts, answers, strict=True
    ):
        assert [*start, *target] == [tokenizer.bos_token_id, *as_text(tokenizer, prompt + answer)]
        assert list(target) == as_answer(tokenizer, prompt, answer)


def test_an_answer_behind_nothing_is_the_beginning_of_a_text(model, tokenizer):
    ((start, target),) = pairs_of(model, tokenizer, [""], ["the film was a"])
    assert start == (tokenizer.bos_token_id,)
    assert list(target) == as_text(tokenizer, "the film was a")


def test_what_is_cut_is_counted_to_the_token(model, tokenizer):
    for count in range(1, 60):
        prompt, answer = " ".join("a" * count), " good"
        both = len(as_text(tokenizer, prompt + answer))
        over = overflows(model, tokenizer, prompt, answer, free_text=False)
        assert over is (both > room(model) - 1), count


def test_bytes_encode_an_answer_as_ever(folders):
    """Results that are committed rest on these tokens."""
    tokenizer = AutoTokenizer.from_pretrained(folders["base"])
    for prompt, answer in [*PAIRS, ("x\n", "\n#### 5"), ("the", ""), ("", " good")]:
        assert as_answer(tokenizer, prompt, answer) == as_text(tokenizer, answer)


@pytest.mark.parametrize("beside", [0, 10])
def test_a_text_that_is_too_long_keeps_its_end(folders, beside):
    base = llama.load(folders["base"])
    tokenizer = AutoTokenizer.from_pretrained(folders["base"])
    bos, most = tokenizer.bos_token_id, room(base) - beside
    text = " ".join(TEXTS)
    assert opened(base, tokenizer, TEXTS[0], beside) == [bos, *as_text(tokenizer, TEXTS[0])]
    assert opened(base, tokenizer, text, beside) == [bos, *as_text(tokenizer, text)[1 - most :]]
    assert opened(base, tokenizer, text, room(base) - 1) == [bos], "it kept all where none had room"


def test_rows_are_padded_on_the_right():
    ids, mask = padded([[5, 6, 7], [8], []], pad=9)
    assert ids.tolist() == [[5, 6, 7], [8, 9, 9], [9, 9, 9]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0]]
    for length, found in ((3, 5), (5, 5), (6, 9)):
        assert padded([[1] * length], pad=0, multiple=4, more=1)[0].shape == (1, found)
