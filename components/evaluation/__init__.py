"""Evaluation of adapters: the score on test data, example by example, with its interval."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.evaluation.calibration import calibration, mistakes
from components.evaluation.classification import accuracy, judge, score_worded
from components.evaluation.metrics import summarise
from components.evaluation.sensitivity import sensitivity
from components.lineage import file_hash, read_json, read_jsonl, write_json, write_jsonl
from components.prompts import with_shots
from components.reporter import Reporter

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

GOLDEN = 8  # prompts whose logits are kept, to recognise a model that was changed
TOP = 16
DECODING = {"score": "mean log-probability per answer token"}


def evaluate_adapter(
    adapter: Path, task: Path, base: Path, out: Path, report: Reporter
) -> dict[str, float]:
    """Judge the adapter of folder `adapter` on the task's test rows.

    Writes `metrics.json`, `records.jsonl`, `mistakes.json` (the surest), `sensitivity.json` (the
    spread of validation scores over wordings and shot orders; for no control) and `golden.json`
    (prompts with their largest next-token logits).

    Raises:
        ValueError: adapter and base do not belong together, or the task has no test rows.
    """
    from transformers import AutoTokenizer

    from components.adapters import load_adapter

    description = read_json(adapter / "adapter.json")
    model, tokenizer = load_adapter(base, adapter), AutoTokenizer.from_pretrained(base)

    def judged(rows: list[dict], wording: dict | None = None) -> list[dict]:
        prompts = [row["prompt"] for row in rows]
        return judge(rows, score_worded(model, tokenizer, description, prompts, wording))

    validation, test = (list(read_jsonl(task / f"{s}.jsonl")) for s in ("validation", "test"))
    own = accuracy(judged(validation))
    report.progress(1, 3, "validation")
    records = judged(test)
    report.progress(2, 3, "test")
    figures = _figures(records, description, task, file_hash(base / "tokenizer.json"))
    write_jsonl(out / "records.jsonl", records)
    write_json(out / "metrics.json", {**figures, "validation_score": own})
    write_json(out / "mistakes.json", mistakes(records, test))
    if description["random_base"] is None:  # the control is there for its score alone
        spreads = sensitivity(
            description, task, validation, own, lambda *asked: accuracy(judged(*asked))
        )
        write_json(out / "sensitivity.json", spreads)
    write_json(out / "golden.json", _golden(model, tokenizer, description, task))
    report.progress(3, 3, f"{figures['metric']} {figures['score']:.3f}")
    low, high = figures["interval"]
    return {
        "score": figures["score"],
        "score_low": low,
        "score_high": high,
        "validation_score": own,
        "ece": figures["calibration"]["ece"],
    }


def _figures(
    records: list[dict], description: dict, task: Path, tokenizer_hash: str
) -> dict[str, Any]:
    """What `metrics.json` says of the test records."""
    content_free = description["settings"].get("content_free")
    figures = summarise(
        records,
        "test",
        description["labels"],
        read_json(task / "task.json")["metric"],
        description["prompt"],
        tokenizer_hash,
        DECODING | ({"content_free": content_free} if content_free else {}),
    )
    return {**figures, "calibration": calibration(records), "adapter": description["name"]}


def _golden(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    description: dict,
    task: Path,
) -> dict:
    import torch

    from components.adapters.encoding import as_text, opening, room

    rows = [row for row, _ in zip(read_jsonl(task / "test.jsonl"), range(GOLDEN), strict=False)]
    first = opening(model, tokenizer)
    prompts = []
    for row in rows:
        text = with_shots(description["prompt"]["shot_texts"], row["prompt"])
        ids = as_text(tokenizer, text)
        tokens = torch.tensor([[*first, *ids[len(first) - room(model) :]]])
        with torch.no_grad():
            logits = model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits[0, -1]
        top = logits.topk(min(TOP, len(logits)))
        largest = {
            str(i): round(v, 4)
            for i, v in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        }
        prompts.append({"prompt": text, "token_ids": tokens[0].tolist(), "logits": largest})
    return {"prompts": prompts}
