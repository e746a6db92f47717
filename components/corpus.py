"""The corpus of a pipeline: the documents of a data set that its base is trained and judged on."""

from pathlib import Path

from components.lineage import read_jsonl, write_json, write_jsonl
from components.reporter import Reporter
from components.splits import SPLITS, describe, digest, document, drop, normalised, require_rows


def build_corpus(dataset: Path, out: Path, report: Reporter) -> dict[str, float]:
    """The documents of a data set, for language models: its texts, whatever their labels.

    A pair is the source, a line break, and the target. A document of train that stands in
    validation or test, whatever its case and spacing, is dropped and counted.

    Raises:
        ValueError: `dataset` lacks a split.
    """
    counts, held, dropped = {}, set(), 0
    for done, split in enumerate(reversed(SPLITS)):
        source, file = dataset / f"{split}.jsonl", out / f"{split}.jsonl"
        if not source.is_file():
            raise ValueError(f"{source}: no such file; run 'dvc repro dataset@{dataset.name}'")
        extra = ("kind", "logprob")
        rows = (
            {"text": document(r), **{k: r[k] for k in extra if k in r}} for r in read_jsonl(source)
        )
        write_jsonl(file, rows)
        dropped += drop(file, held) if split != "test" else 0
        if split != "train":
            held |= {digest(normalised(row)) for row in read_jsonl(file)}
        counts[split] = describe(file)
        report.progress(done + 1, len(SPLITS), split)
    require_rows(dataset, counts, dropped)
    write_json(out / "report.json", {"splits": counts, "leaks": dropped})
    totals = {key: sum(counts[s][key] for s in SPLITS) for key in ("characters", "words")}
    figures = {**{s: counts[s]["rows"] for s in SPLITS}, **totals, "dropped": dropped}
    return {name: float(value) for name, value in figures.items()}
