"""Language modelling: how well texts are predicted, in bits per byte or perplexity per word.

A text's nats include the end of its document, so they are those of the whole text and nothing else,
and models of different tokenizers can be compared. A text longer than the context is read in pieces
that overlap, see `document_nats`.
"""

import math
from collections.abc import Sequence
from typing import Any

from components.adapters.encoding import as_text
from components.evaluation.document_nats import document_nats, reader_of
from components.evaluation.subject import Record, Row, Subject
from components.reporter import Silent


def judge(subject: Subject, rows: Sequence[Row]) -> list[Record]:
    """A record for each row. `statistics` are nats, bytes and words; `correct` is the probability
    of a byte, the geometric mean over the text.
    """
    end = subject.tokenizer.eos_token_id
    texts = [row["answer"] for row in rows]
    documents = [[end, *as_text(subject.tokenizer, text), end] for text in texts]
    found = []
    nats = document_nats(reader_of(subject.model), documents, Silent())
    for row, text, value in zip(rows, texts, nats, strict=True):
        size, words = len(text.encode()), len(text.split())
        record = {"id": row["id"], "label": row["label"], "prediction": "", "truncated": False}
        found.append(
            record
            | {
                "correct": math.exp(-value / size),
                "statistics": [round(value, 4), float(size), float(words)],
                "bits_per_byte": round(value / math.log(2) / size, 6),
            }
        )
    return found


def decoding(subject: Subject) -> dict[str, Any]:
    """How texts were judged, for fingerprints."""
    return {"score": "nats of the text and of its end"}
