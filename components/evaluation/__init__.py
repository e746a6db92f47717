"""Evaluation of adapters: the score on test data, example by example, with its interval."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.evaluation import classification, generation, language_modelling
from components.evaluation.calibration import calibration
from components.evaluation.metrics import score_of, summarise
from components.evaluation.sensitivity import sensitivity
from components.evaluation.subject import Record, Row, Subject, open_subject
from components.evaluation.worst import by_steps, worst
from components.lineage import file_hash, folder_hash, read_jsonl, write_json, write_jsonl
from components.reporter import Reporter

GOLDEN = 8  # prompts whose logits are kept, to recognise a model that was changed
TOP = 16


@dataclass(frozen=True)
class Kind:
    """judge: a record for each row, with "id", "label", "prediction", "correct" (between 0 and 1,
    more is better), "truncated", and "statistics" where the metric is one of sums. decoding: what
    else shapes a score.
    """

    judge: Callable[[Subject, Sequence[Row]], list[Record]]
    decoding: Callable[[Subject], dict[str, Any]]


KINDS: Mapping[str, Kind] = {
    "classification": Kind(classification.judge, classification.decoding),
    "generation": Kind(generation.judge, generation.decoding),
    "language_modelling": Kind(language_modelling.judge, language_modelling.decoding),
}


def evaluate_adapter(
    adapter: Path, task: Path, base: Path, out: Path, report: Reporter
) -> dict[str, float]:
    """Judge the adapter of folder `adapter` on the task's test rows, in its own wording.

    Writes `metrics.json`, `records.jsonl`, `worst.json` (the examples that it errs most on),
    `sensitivity.json` (the spread of validation scores over wordings and shot orders) and
    `golden.json` (prompts with their largest next-token logits, or those of the labels where the
    method generates nothing, and the hashes of adapter, base and tokenizer: a server compares).

    Raises:
        ValueError: adapter and base do not belong together, the task has no test rows, or they lack
            what the adapter's template asks for.
    """
    subject = open_subject(adapter, task, base)
    kind, metric = KINDS[subject.task["kind"]], subject.task["metric"]
    splits = (read_jsonl(task / f"{split}.jsonl") for split in ("test", "validation"))
    rows, held_out = map(subject.worded, splits)

    def validated(asked: Sequence[Row], wording: Mapping[str, Any]) -> float:
        return score_of(kind.judge(subject.reworded(wording), asked), metric)[0]

    validation = validated(held_out, {})
    report.progress(1, 3, "validation")
    records = kind.judge(subject, rows)
    report.progress(2, 3, "test")
    write_jsonl(out / "records.jsonl", records)
    decoding = kind.decoding(subject)
    figures = summarise(
        records,
        "test",
        subject.adapter["labels"],
        metric,
        subject.adapter["prompt"],
        file_hash(base / "tokenizer.json"),
        decoding,
    )
    figures |= {"validation_score": validation, "adapter": subject.adapter["name"]}
    sure = {"calibration": calibration(records)} if subject.adapter["labels"] else {}
    told = {"decoding": decoding, "by_steps": by_steps(records, metric), **_incomplete(records)}
    write_json(out / "metrics.json", {**figures, **told, **sure})
    write_json(out / "worst.json", worst(subject.prompts(rows), rows, records))
    made_of = {"adapter": folder_hash(adapter), "base": subject.adapter["base"]}
    made_of["tokenizer"] = file_hash(base / "tokenizer.json")
    write_json(out / "golden.json", {**made_of, "prompts": _golden(subject, rows)})
    if subject.adapter["random_base"] is None:  # the control is there for its score alone
        spreads = sensitivity(subject.adapter, task, held_out, validation, validated)
        write_json(out / "sensitivity.json", spreads)
    report.progress(3, 3, f"{figures['metric']} {figures['score']:.3f}")
    low, high = figures["interval"]
    return {
        "score": figures["score"],
        "score_low": low,
        "score_high": high,
        "validation_score": validation,
        **({"ece": sure["calibration"]["ece"]} if sure else {}),
        **{key: float(value) for key, value in _incomplete(records).items()},
    }


def validation_score(adapter: Path, task: Path, base: Path) -> float:
    """The score of the adapter of folder `adapter` on validation rows: for choices."""
    subject = open_subject(adapter, task, base)
    rows = subject.worded(read_jsonl(task / "validation.jsonl"))
    return score_of(KINDS[subject.task["kind"]].judge(subject, rows), subject.task["metric"])[0]


def _incomplete(records: Sequence[Record]) -> dict[str, int]:
    """How many prompts lost their beginning, and how many generated answers found no end."""
    return {
        "truncated": sum(record["truncated"] for record in records),
        "unfinished": sum(not record.get("finished", True) for record in records),
    }


def _golden(subject: Subject, rows: list[dict]) -> list[dict]:
    prompts = []
    for text in subject.prompts(rows[:GOLDEN]):
        ids, logits = subject.method.logits(subject.model, subject.tokenizer, text)
        top = logits.topk(min(TOP, len(logits)))
        largest = {
            str(i): round(v, 4)
            for i, v in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        }
        prompts.append({"prompt": text, "token_ids": ids, "logits": largest})
    return prompts
