"""What each token adds to a text, as bytes: a character may be cut across tokens."""

import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")  # a byte, in vocabularies that come from SentencePiece


class Pieces:
    """The tokens of a tokenizer, of any kind, as bytes.

    The text of some tokens depends on the one before: a word at the beginning of a text has no
    space before it. Bytes never do, and only the vocabulary tells them: what a decoder makes of
    half a character is a sign for something unreadable.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer
        self._added = tokenizer.added_tokens_decoder
        special = (number for number, token in self._added.items() if token.special)
        self._special = {*special, *tokenizer.all_special_ids}
        decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
        kinds = _kinds(json.loads(decoder.__getstate__())) if decoder is not None else set()
        self._bytes = {letter: value for value, letter in enumerate(_letters())}
        self._in_vocabulary = cache(self._written)  # as many as the vocabulary has
        self._is_byte_level, self._falls_back = "ByteLevel" in kinds, "ByteFallback" in kinds

    def of(self, token: int, before: int | None) -> bytes:
        """What `token` adds behind the token `before`, None at a text's beginning; nothing where it
        is a control token.
        """
        if token in self._special:
            return b""
        found = self._in_vocabulary(token)
        if found is not None:
            return found
        context = [] if before is None else [before]
        return self._decoded([*context, token])[len(self._decoded(context)) :].encode()

    def word(self, token: int) -> str:
        """The token as the vocabulary has it; empty where a model has more numbers than that."""
        return self._tokenizer.convert_ids_to_tokens(token) or ""

    def _written(self, token: int) -> bytes | None:
        """The bytes of `token` where they are written in the vocabulary."""
        word = self.word(token)
        if self._falls_back and (byte := FALLBACK.fullmatch(word)):
            return bytes([int(byte[1], 16)])
        if self._is_byte_level and token not in self._added:
            return bytes(self._bytes[letter] for letter in word)
        return None

    def _decoded(self, ids: list[int]) -> str:
        # tidied up, a text would change behind what was told of it already
        return self._tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )


def _kinds(decoder: dict[str, Any]) -> set[str]:
    """The kinds of the decoders that a tokenizer's consists of."""
    return {decoder["type"]}.union(*map(_kinds, decoder.get("decoders", ())))


def _letters() -> list[str]:
    """What each byte is written as in a byte-level vocabulary (GPT-2's `bytes_to_unicode`): itself
    where it can be seen, else a letter from number 256 on.
    """
    seen = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = iter(range(256, 512))
    return [chr(value if value in seen else next(hidden)) for value in range(256)]
