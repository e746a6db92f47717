"""Generation: an answer is written, its final answer found in it and compared with the row's.

With more samples than one the final answer is the one that most of them come to: self-consistency
(Wang et al. 2022, section 2), after which chains of thought (Wei et al. 2022) are judged by where
they end.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from components.evaluation.decoding import Decoding, Generated, generate
from components.evaluation.subject import Record, Row, Subject
from components.evaluation.text_scores import NORMALISERS, judge_texts, signature
from components.lineage import text_hash
from components.prompts import SHOT_BORDER, find_answer

SEED_DIGITS = 15  # of a hash, in base 16: what fits into 63 bits


def judge(subject: Subject, rows: Sequence[Row]) -> list[Record]:
    """A record for each row: what was generated, the final answer in it, its score.

    A row with worked steps keeps their number; `votes` are those of its samples for each answer,
    and one that ends in nothing has none.
    """
    if not rows:
        return []
    task, extract = subject.task, subject.adapter["prompt"].get("extract")
    same = NORMALISERS[task["normalise"]]
    records: list[Record] = []
    for row, samples in zip(rows, _samples(subject, rows), strict=True):
        answers = [find_answer(extract, sample.text) for sample in samples]
        prediction, votes = majority([answer for answer in answers if answer], same)
        records.append(
            {
                "id": row["id"],
                "label": row["label"],
                "prediction": prediction,
                "generated": [sample.text for sample in samples],
                "truncated": samples[0].truncated,
                "finished": all(sample.finished for sample in samples),
                **({"votes": votes} if len(samples) > 1 else {}),
                **({"steps": row["steps"]} if "steps" in row else {}),
            }
        )
    predictions, labels = ([record[key] for record in records] for key in ("prediction", "label"))
    judged = judge_texts(task["metric"], predictions, labels, task["normalise"])
    return [record | score for record, score in zip(records, judged, strict=True)]


def _samples(subject: Subject, rows: Sequence[Row]) -> list[list[Generated]]:
    """The answers to each row. A sample's seed is of the adapter's seed, the row and its number."""
    settings = subject.adapter["settings"]
    count = settings.get("samples", 1)
    prompts = [prompt for prompt in subject.prompts(rows) for _ in range(count)]
    seeds = [
        int(text_hash(str(settings["seed"]), row["id"], str(number))[:SEED_DIGITS], 16)
        for row in rows
        for number in range(count)
    ]
    found = generate(subject.model, subject.tokenizer, prompts, seeds, _decoding(subject))
    return [found[start : start + count] for start in range(0, len(found), count)]


def _decoding(subject: Subject) -> Decoding:
    """Behind worked examples a base goes on with an example of its own: their border ends it."""
    prompt = subject.adapter["prompt"]
    border = [SHOT_BORDER] if prompt["shot_texts"] else []
    return Decoding(
        subject.task["max_new_tokens"],
        subject.adapter["settings"].get("temperature", 0.0),
        tuple(dict.fromkeys([*prompt.get("stop", ()), *border])),
    )


def majority(answers: Sequence[str], same: Any) -> tuple[str, dict[str, int]]:
    """The answer that was given most often, of equals the first; empty where there is none.

    same: makes equal what counts as one answer. Returns the votes by such an answer, too.
    """
    votes = Counter(map(same, answers))
    if not votes:
        return "", {}
    most = max(votes.values())
    return next(answer for answer in answers if votes[same(answer)] == most), dict(votes)


def decoding(subject: Subject) -> dict[str, Any]:
    """How answers were made and compared, for fingerprints."""
    used = _decoding(subject)
    return {
        "decoding": "greedy" if not used.temperature else "sampling",
        "max_new_tokens": used.max_new_tokens,
        "temperature": used.temperature,
        "samples": subject.adapter["settings"].get("samples", 1),
        "stop": list(used.stop),
        "extract": subject.adapter["prompt"].get("extract"),
        "normalise": subject.task["normalise"],
        "signature": signature(subject.task["metric"]),
    }
