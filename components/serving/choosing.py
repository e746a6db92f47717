"""How a request's tokens are chosen, as kindling's own engine asks for it."""

import secrets
import threading
from typing import Any

from components.inference import constraint
from components.inference.request import Choosing
from components.serving.engine import RequestError, Sampling
from components.serving.texts import Texts


class Chosen:
    """Makes a `Choosing` of a `Sampling`."""

    def __init__(self, texts: Texts, vocabulary: int) -> None:
        self.texts, self.vocabulary = texts, vocabulary
        self._words: Any = None  # what constraints read; made when the first is asked for
        self._turn = threading.Lock()

    def __call__(self, sampling: Sampling) -> Choosing:
        """Raises:
        RequestError: there is no such answer.
        """
        return Choosing(
            sampling.max_tokens,
            self.texts.ends,
            sampling.temperature,
            sampling.top_p,
            sampling.top_k,
            sampling.min_p,
            sampling.repetition_penalty,
            secrets.randbits(63) if sampling.seed is None else sampling.seed,
            sampling.top,
            self._constraint(sampling),
        )

    def _constraint(self, sampling: Sampling) -> constraint.Grammar | None:
        if not sampling.choices and sampling.json_schema is None:
            return None
        with self._turn:
            self._words = self._words or constraint.vocabulary_of(
                self.texts.tokenizer, self.vocabulary, self.texts.ends
            )
        try:
            if sampling.choices:
                return constraint.Grammar(self._words, constraint.one_of(sampling.choices))
            return constraint.Grammar(self._words, constraint.json_of(sampling.json_schema))
        except ValueError as error:
            raise impossible(error, sampling) from error


def impossible(error: ValueError, sampling: Sampling) -> RequestError:
    """Why no answer is what `sampling` holds it to, with the field that says so."""
    return RequestError(str(error), "choices" if sampling.choices else "response_format")
