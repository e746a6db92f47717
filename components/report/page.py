"""One HTML page that shows a pipeline's results and how they came to be."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.lineage import LINEAGE, read_json
from components.report import plots
from components.reporter import Reporter

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATE = "page.html"
MADE = ("corpus", "tokenizer", "tokens", "base")


def build_report(
    pipeline: str, artifacts: Path, adapters: Sequence[str], out: Path, report: Reporter
) -> dict[str, float]:
    """Write `index.html`, self-contained, from the folders of `artifacts`.

    adapters: the names to show, in order; the first that only designs a prompt is what others are
    compared with. The same folders give the same bytes.

    Raises:
        ValueError: a folder is missing.
    """
    from jinja2 import Environment, FileSystemLoader

    folder = artifacts / pipeline
    for needed in [*MADE, *(f"evaluations/{name}" for name in adapters)]:
        if not (folder / needed).is_dir():
            raise ValueError(f"{folder / needed} is missing; run 'dvc repro' to make it")
    known = {row["name"]: row for row in plots.read_scores(folder)}
    rows = [known[name] for name in adapters if name in known]
    _compare(folder, rows)
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    page = environment.get_template(TEMPLATE).render(
        pipeline=pipeline,
        lineage=_lineage(folder, adapters),
        corpus=read_json(folder / "corpus" / "report.json"),
        tokenizer=read_json(folder / "tokenizer" / "statistics.json"),
        base=_without_history(folder / "base" / "training.json"),
        language_model=read_json(folder / "evaluations" / "base" / "metrics.json"),
        samples=read_json(folder / "base" / "samples.json"),
        rows=rows,
        prompts={row["adapter"]["prompt"]["name"]: row["adapter"]["prompt"] for row in rows},
        figures=_figures(folder, rows),
    )
    (out / "index.html").write_text(page, encoding="utf-8")
    report.progress(1, 1)
    return {"adapters": float(len(rows))}


def _without_history(path: Path) -> dict[str, Any]:
    training = read_json(path)
    return {"last": training["history"][-1], **{k: training[k] for k in ("parameters", "tokens")}}


def _lineage(folder: Path, adapters: Sequence[str]) -> list[dict[str, str]]:
    """What was made, from what: content hashes of the pipeline's folders."""
    paths = [folder / name for name in [*MADE, *(f"adapters/{name}" for name in adapters)]]
    found = []
    for path in paths:
        about = read_json(path / LINEAGE)
        inputs = [f"{name} {content[:8]}" for name, content in about["inputs"].items()]
        found.append(
            {
                "name": path.relative_to(folder.parent).as_posix(),
                "content": about["content"][:12],
                "inputs": ", ".join(inputs),
                "stage": about["stage"],
            }
        )
    return found


def _compare(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Add to each row its paired difference to the first prompt design of the same task."""
    from components.evaluation.compare import difference

    for row in rows:
        rivals = [
            other["name"]
            for other in rows
            if other["task"] == row["task"] and other["adapter"]["method"] == "prompt"
        ]
        row["rival"] = rivals[0] if rivals and rivals[0] != row["name"] else None
        if row["rival"]:
            evaluations = folder / "evaluations"
            row["gap"] = difference(evaluations / row["name"], evaluations / row["rival"])


def _figures(folder: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The page's pictures as data addresses."""
    drawn = {
        **plots.scores(folder),
        **plots.loss(folder / "base"),
        **plots.data(folder / "corpus"),
        **plots.tokenizer(folder / "tokenizer"),
        **plots.language_model(folder / "evaluations" / "base"),
    }
    confusions = {
        row["name"]: plots.evaluation(folder / "evaluations" / row["name"])["confusion"]
        for row in rows
    }
    pictures = {name: _address(figure) for name, figure in drawn.items()}
    return {**pictures, "confusions": {name: _address(f) for name, f in confusions.items()}}


def _address(figure: "Figure") -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
