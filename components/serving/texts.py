"""Texts and conversations as tokens, from any thread."""

import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from jinja2 import TemplateError
from transformers import AutoTokenizer

from components.adapters.encoding import as_text, ends_of
from components.lineage import read_json
from components.models.brought import is_brought
from components.serving.engine import RequestError
from components.serving.pieces import Pieces

FIXED = 1024  # texts whose tokens are remembered


class Texts:
    """The tokenizer of a base. ends: the tokens that end an answer; chat_opens: see `Engine`."""

    def __init__(self, base: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(base)
        self.ends, self.chat_opens = ends_of(self.tokenizer, _stated(base)), is_brought(base)
        # chats have their own: whether control tokens count is a state of the tokenizer
        self._for_chats = AutoTokenizer.from_pretrained(base)
        self.pieces = Pieces(self.tokenizer)
        self._turn, self._turn_of_chats = threading.Lock(), threading.Lock()
        self.encode_fixed = lru_cache(FIXED)(lambda text: tuple(self.encode(text)))

    def encode(self, text: str) -> list[int]:
        with self._turn:
            return as_text(self.tokenizer, text)

    def chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """See `Engine.chat`."""
        if self._for_chats.chat_template is None:
            raise RequestError(
                "this base has no chat template, so there are no conversations with it: POST "
                "/v1/completions",
                "messages",
            )
        try:
            with self._turn_of_chats:
                encoded = self._for_chats.apply_chat_template(
                    list(messages), add_generation_prompt=True, sanitize_control_tokens=True
                )
        except TemplateError as error:  # as Mistral's and Gemma's, of whose turn it is
            raise RequestError(
                f"the base's chat template refuses these messages: {error}", "messages"
            ) from error
        return encoded["input_ids"]


def _stated(base: Path) -> int | list[int] | None:
    """`eos_token_id` of the base's generation config."""
    file = base / "generation_config.json"
    return read_json(file).get("eos_token_id") if file.is_file() else None


class Speaking:
    """The part of `Engine` that is its tokenizer's."""

    texts: Texts

    def encode(self, text: str) -> list[int]:
        """See `Engine.encode`."""
        return self.texts.encode(text)

    def encode_fixed(self, text: str) -> tuple[int, ...]:
        """See `Engine.encode_fixed`."""
        return self.texts.encode_fixed(text)

    def piece(self, token: int, before: int | None) -> bytes:
        """See `Engine.piece`."""
        return self.texts.pieces.of(token, before)

    def word(self, token: int) -> str:
        """See `Engine.word`."""
        return self.texts.pieces.word(token)

    def chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """See `Engine.chat`."""
        return self.texts.chat(messages)

    @property
    def chat_opens(self) -> bool:
        """See `Engine.chat_opens`."""
        return self.texts.chat_opens
