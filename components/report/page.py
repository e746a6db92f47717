"""One HTML page that shows a pipeline's results and how they came to be."""

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.lineage import LINEAGE, content_of, read_json
from components.models.brought import TOLD, is_brought
from components.report import judgement, plots
from components.reporter import Reporter

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.figure import Figure

TEMPLATE = "page.html"
HASH = 12  # characters of a content hash that are shown
SALT = "kindling"  # of the names inside an SVG, which are drawn at random without one


def build_report(
    pipeline: str, artifacts: Path, adapters: Sequence[str], out: Path, report: Reporter
) -> dict[str, float]:
    """Write `index.html`, self-contained, from the folders of `artifacts`.

    adapters: the names to show, in order; the first that only designs a prompt is what the others
    on the same examples are compared with. The same folders give the same bytes.

    Raises:
        ValueError: a folder is missing, or evaluations of one task cannot be compared.
    """
    folder = artifacts / pipeline
    _require(artifacts, folder, adapters)
    rows = plots.read_scores(folder, adapters)
    _compare(folder, rows)
    for row in rows:
        row["worst"] = read_json(folder / "evaluations" / row["name"] / "worst.json")
    page = environment().get_template(TEMPLATE)
    text = page.render(
        pipeline=pipeline,
        lineage=_lineage(folder, adapters),
        versions=_versions(folder, adapters),
        **_of_base(folder),
        rows=rows,
        best=_best(rows),
        spreads=judgement.spreads(folder, rows),
        overlap=judgement.overlap(folder, rows),
        figures=_figures(folder, rows),
    )
    (out / "index.html").write_text(text, encoding="utf-8")
    report.progress(1, 1)
    return {"adapters": float(len(rows))}


def environment() -> "Environment":
    """The templates of this folder; what they are given is text, never markup."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _require(artifacts: Path, folder: Path, adapters: Iterable[str]) -> None:
    """Refuse before drawing what would only fail later; each folder must have its lineage."""
    brought = is_brought(folder / "base")  # then nothing made it here
    needed = ["base"] if brought else [*RESULTS, "evaluations/base", "contamination"]
    for name in needed:
        content_of(folder / name)
    for name in adapters:
        for kind in ("adapters", "evaluations", "controls"):
            content_of(folder / kind / name)
        task = read_json(folder / "adapters" / name / "adapter.json")["task"]
        content_of(artifacts / "controls" / task)


def _of_base(folder: Path) -> dict[str, Any]:
    """What the page says of the base and of what made it; None for what there is not."""
    parts = {
        "corpus": "corpus/report.json",
        "tokenizer": "tokenizer/statistics.json",
        "training": "base/training.json",
        "samples": "base/samples.json",
        "language_model": "evaluations/base/metrics.json",
    }
    found = {
        name: read_json(folder / path) if (folder / path).is_file() else None
        for name, path in parts.items()
    }
    training = found.pop("training")
    if training is None:
        return {**found, "base": read_json(folder / "base" / TOLD)}
    counts = {key: training[key] for key in ("parameters", "tokens")}
    return {**found, "base": {"last": training["history"][-1], **counts}}


def _lineage(folder: Path, adapters: Sequence[str]) -> list[dict[str, Any]]:
    """What was made, from what, in order; data sets and tasks appear as others' inputs."""
    results = {name: told for name, told in RESULTS.items() if (folder / name).is_dir()}
    results |= {f"adapters/{name}": _of_adapter for name in adapters}
    made: dict[str, dict[str, Any]] = {}
    for place, result in results.items():
        about = read_json(folder / place / LINEAGE)
        for given, content in about["inputs"].items():
            made.setdefault(given, {"content": content[:HASH], "inputs": [], "result": ""})
        made[f"{folder.name}/{place}"] = {
            "content": about["content"][:HASH],
            "inputs": list(about["inputs"]),
            "result": result(folder / place),
        }
    return [{"name": name, **entry} for name, entry in made.items()]


def _of_adapter(path: Path) -> str:
    trained = read_json(path / "adapter.json")["trainable_parameters"]
    score = read_json(path.parents[1] / "evaluations" / path.name / "metrics.json")
    return f"{trained:,} parameters trained, {score['metric']} {score['score']:.3f}"


RESULTS: dict[str, Callable[[Path], str]] = {
    "corpus": lambda path: (
        f"{read_json(path / 'report.json')['splits']['train']['rows']:,} documents to train on"
    ),
    "tokenizer": lambda path: (
        f"{read_json(path / 'statistics.json')['vocab_size']:,} entries in the vocabulary"
    ),
    "tokens": lambda path: (
        f"{read_json(path / 'tokens.json')['splits']['train']['tokens']:,} tokens to train on"
    ),
    "base": lambda path: f"{_of_base(path.parent)['base']['parameters']:,} parameters",
}


def _versions(folder: Path, adapters: Sequence[str]) -> dict[str, str]:
    """The libraries that shaped the results."""
    found: dict[str, str] = {}
    made = [name for name in RESULTS if (folder / name).is_dir()]
    for name in [*made, *(f"adapters/{name}" for name in adapters)]:
        found |= read_json(folder / name / LINEAGE)["versions"]
    return dict(sorted(found.items()))


def _compare(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Add to each row its paired difference to the first prompt design on the same examples: of its
    task, or of another that only differs in wording.
    """
    from components.evaluation.compare import difference

    designs = [row for row in rows if row["adapter"]["method"] == "prompt"]
    for row in rows:
        key = row["metrics"]["comparison_key"]
        rivals = (
            d for d in designs if row["task"] == d["task"] or key == d["metrics"]["comparison_key"]
        )
        rival = next((design["name"] for design in rivals), None)
        row["rival"] = None if rival == row["name"] else rival
        if row["rival"]:
            evaluations = folder / "evaluations"
            row["gap"] = difference(evaluations / row["name"], evaluations / row["rival"])


def _best(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The adaptation with the best score of each task; of equals, the first."""
    best: dict[str, dict[str, Any]] = {}
    for row in rows:
        held = best.setdefault(row["task"], row)
        score, highest = (each["metrics"]["score"] for each in (row, held))
        if score < highest if row["metrics"]["lower_is_better"] else score > highest:
            best[row["task"]] = row
    return list(best.values())


def _figures(folder: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The page's pictures as data addresses."""
    drawn = plots.of_scores(rows)
    for kind, name in (
        ("base", "base"),
        ("corpus", "corpus"),
        ("tokenizer", "tokenizer"),
        ("language_model", "evaluations/base"),
    ):
        drawn |= plots.of_stage(kind, folder / name)
    of_adapters: dict[str, dict[str, str]] = {}
    for row in rows:
        pictures = plots.of_stage("evaluation", folder / "evaluations" / row["name"])
        for kind, figure in pictures.items():
            of_adapters.setdefault(kind, {})[row["name"]] = address(figure)
    return {name: address(figure) for name, figure in drawn.items()} | of_adapters


def address(figure: "Figure") -> str:
    """The picture inside an address: an SVG without a date, on a transparent ground."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": SALT}):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
