"""What an answer may be: one of given strings, or JSON of a schema; by llguidance's grammars."""

import json
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import llguidance.hf
import llguidance.numpy
import numpy as np
from llguidance import LLMatcher, LLTokenizer

from components.inference.request import GaveUp

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def vocabulary_of(
    tokenizer: "PreTrainedTokenizerFast", size: int, ends: Collection[int]
) -> LLTokenizer:
    """The tokens' bytes, as grammars need them.

    size: of the model's output, maybe padded. ends: the tokens that may end an answer.
    """
    known = [end for end in sorted(ends) if 0 <= end < size]  # another one is an error there
    return llguidance.hf.from_tokenizer(tokenizer, n_vocab=size, eos_token=known)


def one_of(strings: Sequence[str]) -> str:
    """The grammar of an answer that is one of `strings`."""
    written = (json.dumps(text, ensure_ascii=False) for text in strings)
    # JSON lets the last control character of ASCII stand as it is, and grammars do not
    options = " | ".join(text.replace("\x7f", r"\u007f") for text in written)
    return LLMatcher.grammar_from_lark(f"start: {options}")


def json_of(schema: str) -> str:
    """The grammar of JSON that a schema (JSON text) allows, without white space between its parts:
    a model that knows no JSON would write nothing else.
    """
    return LLMatcher.grammar_from_json_schema(schema, defaults={"whitespace_flexible": False})


class Grammar:
    """A `request.Constraint`: where an answer stands in a grammar."""

    def __init__(self, vocabulary: LLTokenizer, grammar: str) -> None:
        """Raises:
        ValueError: there is no such grammar, or it is too large.
        """
        error = LLMatcher.validate_grammar(grammar, vocabulary)
        if error:
            raise ValueError(f"no answer can be held to this: {error}")
        self._matcher: Any = LLMatcher(vocabulary, grammar)

    def mask(self, words: np.ndarray) -> None:
        llguidance.numpy.fill_next_token_bitmask(self._matcher, words[None], 0)
        self._require_sound()

    def take(self, token: int) -> None:
        self._matcher.consume_token(token)
        self._require_sound()

    def _require_sound(self) -> None:
        """llguidance tells nobody that it met a limit of its own: it lets the answer end there."""
        if self._matcher.is_error():
            reason, *_ = self._matcher.get_error().splitlines()  # the rest is its state
            raise GaveUp(f"no answer can be held to this to its end: {reason}")
