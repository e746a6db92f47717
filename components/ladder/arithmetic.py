"""Can a language model add? The world's stories, asked without worked steps.

Exact match wants every token of an answer right; the nats of an answer move before that does
(Schaeffer et al. 2023), so both are told.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.evaluation.document_nats import Reader
from components.evaluation.metrics import bootstrap_interval, score_of
from components.lineage import read_jsonl
from components.splits import STEPS_END

if TYPE_CHECKING:
    import tokenizers

KIND = "story"
MOST = 600
BATCH = 32
CHANGES = re.compile(r"\b(?:finds|loses)\b")


def solve(
    reader: Reader, engine: "tokenizers.Tokenizer", end: int, test: Path
) -> dict[str, Any] | None:
    """`exact_match` and `nats` of answers, of `all` and `by_steps`; None where there are no
    stories in `test`.
    """
    texts = [row["text"] for row in read_jsonl(test) if row.get("kind") == KIND][:MOST]
    if not texts:
        return None
    records = []
    for start in range(0, len(texts), BATCH):
        records += _answered(reader, engine, end, texts[start : start + BATCH])
    steps = sorted({record["steps"] for record in records})
    by_steps = {str(n): _told([r for r in records if r["steps"] == n]) for n in steps}
    return {"all": _told(records), "by_steps": by_steps}


def _told(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    score, interval = score_of(records, "exact_match")
    nats = [record["nats"] for record in records]
    return {
        "exact_match": {"score": score, "interval": interval},
        "nats": {"score": sum(nats) / len(nats), "interval": [*bootstrap_interval(nats)]},
        "n": len(records),
    }


def _answered(
    reader: Reader, engine: "tokenizers.Tokenizer", end: int, texts: Sequence[str]
) -> list[dict[str, Any]]:
    """The answer behind the bare question: how likely it is, and whether it would be given."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    rows, spans, steps = [], [], []
    for text in texts:
        question = text.split("\n")[0]
        asked = engine.encode(f"{question}\n{STEPS_END}").ids
        answer = engine.encode(text.rpartition(STEPS_END)[2]).ids
        rows.append(torch.tensor([end, *asked, *answer, end]))
        spans.append((len(asked), len(answer) + 1))  # the end belongs to the answer
        steps.append(len(CHANGES.findall(question)))
    ids = pad_sequence(rows, batch_first=True)
    with torch.no_grad():
        logprobs = reader.logits(ids[:, :-1]).log_softmax(-1)
    found = []
    for row, (start, length), count in zip(range(len(texts)), spans, steps, strict=True):
        targets = ids[row, start + 1 : start + 1 + length]
        given = logprobs[row, start : start + length]
        nats = -float(given.gather(1, targets[:, None]).sum())
        right = bool((given.argmax(-1) == targets).all())
        found.append({"nats": nats, "correct": float(right), "steps": count})
    return found
