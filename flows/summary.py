"""What a run says at its end: each stage, each adaptation, what was promoted, what to type next."""

from pathlib import Path
from typing import Any

from components.catalogue import Catalogue
from components.ladder.block import GROUPS
from components.lineage import read_json
from flows import evidence, expectations, settings

TOLD = {
    "dataset": ("train", "validation", "test"),
    "corpus": ("train", "dropped"),
    "tokenizer": ("vocab_size", "bytes_per_token"),
    "tokens": ("train_tokens",),
    "base": ("loss", "validation_loss", "parameters"),
    "language_model": ("bits_per_byte", "ratio"),
    "task": ("train", "test"),
    "controls": ("majority", "tfidf", "bytes", "byte_pairs"),
    "contamination": ("test_rows", "dirty"),
    "adapter": ("loss", "trainable_parameters", "truncated"),
    "evaluation": ("score", "truncated", "unfinished"),
    "random": ("score",),
    "brought": ("parameters",),
    "search": ("score", "trials"),
    "final": ("score", "train_seconds"),
    "vocabulary": ("vocab_size", "bytes_per_token"),
    **dict.fromkeys(GROUPS, ("loss", "validation_loss", "parameters")),
    "measure_embedding": ("analogies_semantic", "analogies_syntactic"),
    "measure_language": ("perplexity_per_word", "bits_per_byte"),
    "measure_bert": ("masked_accuracy", "accuracy"),
    "measure_translator": ("bleu", "chrf"),
    "ladder": ("pages", "pictures", "expectations_held", "expectations_contradicted"),
}


UNLESS_ZERO = ("truncated", "unfinished")


def _figures(stage: str, figures: dict[str, float]) -> str:
    keys = [key for key in TOLD.get(stage.split("@")[0], ()) if key in figures]
    told = [(key, figures[key]) for key in keys if figures[key] or key not in UNLESS_ZERO]
    return ", ".join(f"{key.replace('_', ' ')} {_number(value)}" for key, value in told)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:.3g}"


def collect(
    workspace: Path,
    catalogue: Catalogue,
    pipeline: str,
    stages: list[str],
    ran: list[str],
    released: dict[str, Any],
) -> dict[str, Any]:
    """Gather what `text` and `markdown` print, as JSON values."""
    rows = []
    for stage in stages:
        kept = evidence.result_of(workspace, stage)
        state = "run" if stage in ran else "up to date"
        seconds = kept.get("seconds") if stage in ran else None
        result = _figures(stage, kept.get("figures", {}))
        rows.append({"stage": stage, "state": state, "seconds": seconds, "result": result})
    scores = []
    for name in catalogue.adapters_of(pipeline):
        folder = workspace / "artifacts" / pipeline / "evaluations" / name
        if not (folder / "metrics.json").is_file():
            continue
        figures = read_json(folder / "metrics.json")
        decision = released.get("decisions", {}).get(name, {})
        scores.append(
            {
                "adapter": name,
                "method": catalogue.adapters[name].method,
                "metric": figures["metric"],
                "score": figures["score"],
                "interval": figures["interval"],
                "decision": decision.get("summary", ""),
            }
        )
    return {
        "pipeline": pipeline,
        "stages": rows,
        "scores": scores,
        "expectations": expectations.judged(workspace, pipeline),
        "next": _following(catalogue, pipeline),
    }


def _following(catalogue: Catalogue, pipeline: str) -> list[str]:
    """What one may type next."""
    if pipeline in catalogue.ladders:
        book = f"artifacts/{pipeline}/report/index.html"
        return [
            f"open {book}",
            "mlflow ui      # runs, plots",
            f"kindling trace {Path(book).parent}",
        ]
    report = [f"open artifacts/{pipeline}/report/index.html"]
    return [
        *(report if catalogue.adapters_of(pipeline) else []),
        f"kindling serve {pipeline}",
        "mlflow ui      # runs, plots, models",
        f"kindling trace artifacts/{pipeline}/base",
        "kindling registry list",
        *(
            f"kindling compare {name}      # artifacts/comparisons/{name}/result/index.html"
            for name in catalogue.comparisons_of(pipeline)
        ),
    ]


def text(outcome: dict[str, Any]) -> None:
    """Print the summary as tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    stages = Table(title=f"pipeline {outcome['pipeline']}", title_justify="left")
    for column, justify in (("stage", "left"), ("result", "left"), ("seconds", "right")):
        stages.add_column(column, justify=justify)
    for row in outcome["stages"]:
        seconds = f"{row['seconds']:.1f}" if row["seconds"] is not None else "up to date"
        stages.add_row(row["stage"], row["result"], seconds)
    console.print(stages)
    if outcome["scores"]:
        scores = Table(title="adaptations", title_justify="left")
        for column in ("adapter", "method", "score \\[95 % interval]", "decision"):
            scores.add_column(column)
        for row in outcome["scores"]:
            scores.add_row(row["adapter"], row["method"], score(row), row["decision"])
        console.print(scores)
    for one in outcome["expectations"]:
        console.print(expectations.sentence(one), markup=False, highlight=False, soft_wrap=True)
    console.print(f"{outcome['seconds']} s in all. Next:")
    activation = settings.activation()
    for line in [*([activation] if activation else []), *outcome["next"]]:
        console.print(f"  {line}", highlight=False)


def score(row: dict[str, Any]) -> str:
    low, high = row["interval"]
    return f"{row['metric']} {row['score']:.3f} \\[{low:.3f}, {high:.3f}]"


def key(pipeline: str) -> str:
    """What Prefect's UI files a pipeline's summaries under: it takes a-z, digits and dashes."""
    return f"summary-{pipeline}".lower().replace("_", "-")


def markdown(outcome: dict[str, Any]) -> str:
    """The summary for Prefect's UI."""
    lines = [f"# {outcome['pipeline']}", "", "| stage | result | seconds |", "|---|---|---|"]
    lines += [f"| {r['stage']} | {r['result']} | {r['seconds'] or ''} |" for r in outcome["stages"]]
    if outcome["scores"]:
        lines += ["", "| adapter | method | score | decision |", "|---|---|---|---|"]
    lines += [
        f"| {r['adapter']} | {r['method']} | {score(r)} | {r['decision']} |"
        for r in outcome["scores"]
    ]
    lines += ["", *(f"- {expectations.sentence(one)}" for one in outcome["expectations"])]
    return "\n".join(lines)
