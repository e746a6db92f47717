"""Evaluation of adapters: the score on test data, example by example, with its interval."""

from pathlib import Path
from typing import TYPE_CHECKING

from components.evaluation.metrics import summarise
from components.lineage import file_hash, read_json, read_jsonl, write_json, write_jsonl
from components.reporter import Reporter

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

GOLDEN = 8  # prompts whose logits are kept, to recognise a model that was changed
TOP = 16


def evaluate_adapter(
    adapter: Path, task: Path, base: Path, out: Path, report: Reporter
) -> dict[str, float]:
    """Judge the adapter of folder `adapter` on the task's test rows.

    Writes `metrics.json`, `records.jsonl` and `golden.json` (prompts with their largest next-token
    logits, or those of the labels where the method generates nothing).

    Raises:
        ValueError: adapter and base do not belong together, or the task has no test rows.
    """
    from transformers import AutoTokenizer

    from components.adapters import METHODS, load_adapter

    description = read_json(adapter / "adapter.json")
    model = load_adapter(base, adapter)
    tokenizer = AutoTokenizer.from_pretrained(base)
    held_out = _records(model, tokenizer, description, task, "validation")
    report.progress(1, 2, "validation")
    records = _records(model, tokenizer, description, task, "test")
    write_jsonl(out / "records.jsonl", records)
    figures = summarise(
        records,
        "test",
        description["labels"],
        read_json(task / "task.json")["metric"],
        description["prompt"],
        file_hash(base / "tokenizer.json"),
        {"score": METHODS[description["method"]].scored},
    )
    validation = sum(record["correct"] for record in held_out) / len(held_out)
    write_json(
        out / "metrics.json",
        {**figures, "validation_score": validation, "adapter": description["name"]},
    )
    write_json(out / "golden.json", _golden(model, tokenizer, description, task))
    report.progress(2, 2, f"{figures['metric']} {figures['score']:.3f}")
    low, high = figures["interval"]
    return {
        "score": figures["score"],
        "score_low": low,
        "score_high": high,
        "validation_score": validation,
    }


def validation_score(adapter: Path, task: Path, base: Path) -> float:
    """The mean score of the adapter of folder `adapter` on validation rows: for choices."""
    from transformers import AutoTokenizer

    from components.adapters import load_adapter

    description = read_json(adapter / "adapter.json")
    model, tokenizer = load_adapter(base, adapter), AutoTokenizer.from_pretrained(base)
    records = _records(model, tokenizer, description, task, "validation")
    return sum(record["correct"] for record in records) / len(records)


def _prompts(description: dict, rows: list[dict]) -> list[str]:
    from components.prompts import with_shots

    shots = description["prompt"]["shot_texts"]
    return [with_shots(shots, row["prompt"]) for row in rows]


def _records(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    description: dict,
    task: Path,
    split: str,
) -> list[dict]:
    from components.adapters import METHODS

    rows = list(read_jsonl(task / f"{split}.jsonl"))
    scores_of = METHODS[description["method"]].scores
    scored = scores_of(model, tokenizer, _prompts(description, rows), description["labels"])
    records = []
    for row, scores in zip(rows, scored, strict=True):
        prediction = max(scores, key=scores.__getitem__)
        records.append(
            {
                "id": row["id"],
                "label": row["label"],
                "prediction": prediction,
                "correct": prediction == row["label"],
                "scores": scores,
            }
        )
    return records


def _golden(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    description: dict,
    task: Path,
) -> dict:
    from components.adapters import METHODS

    rows = [row for row, _ in zip(read_jsonl(task / "test.jsonl"), range(GOLDEN), strict=False)]
    logits_of = METHODS[description["method"]].logits
    prompts = []
    for text in _prompts(description, rows):
        ids, logits = logits_of(model, tokenizer, text)
        top = logits.topk(min(TOP, len(logits)))
        largest = {
            str(i): round(v, 4)
            for i, v in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        }
        prompts.append({"prompt": text, "token_ids": ids, "logits": largest})
    return {"prompts": prompts}
