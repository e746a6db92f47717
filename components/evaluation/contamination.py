"""How much of a task's evaluation rows the pretraining corpus holds already.

The rule of Brown et al. 2020, appendix C: words are compared, whatever their case and punctuation,
and a row with one run of N words in common with a training document is dirty, all others are clean.
N is the 5th percentile of the rows' lengths, 13 at most, as there. 8 is their least, which most
rows of short texts have not: there the least is the rows' median, if that is smaller. A row of
fewer than N words is dirty if a document holds all of it in a run, where they leave it out.

Runs that many texts share by chance make rows dirty too, so the clean ones are surely clean, and
their score beside that of all rows says what the overlap is worth.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from components.lineage import read_json, read_jsonl, write_json, write_jsonl
from components.reporter import Reporter

SPLITS = ("validation", "test")
SHORTEST, LONGEST = 8, 13  # words of a run: Brown et al. 2020, appendix C
LOW, MIDDLE = 0.05, 0.5  # quantiles of the lengths
WORD = re.compile(r"\w+")
TOLD_EVERY = 5000  # documents


def contamination(
    corpus: Path, tasks: Mapping[str, Path], out: Path, report: Reporter
) -> dict[str, float]:
    """Look for the evaluation rows of `tasks` in the training documents of the folder `corpus`.

    Documents are read one at a time, so memory grows with the rows, not with the corpus. Writes
    `metrics.json` (for each task its run length "words" and, by split, "rows", "dirty" and "share")
    and `records.jsonl` (each dirty row's "task", "split", "id", and the first "run" found).
    """
    wanted = {
        (task, split): list(read_jsonl(folder / f"{split}.jsonl"))
        for task, folder in tasks.items()
        for split in SPLITS
    }
    lengths = {task: _run_length(wanted, task) for task in tasks}
    runs: dict[str, list[tuple[str, str, str]]] = {}  # a run to the rows that hold it
    for (task, split), rows in wanted.items():
        for row in rows:
            for run in _runs(_words(row["text"]), lengths[task]):
                runs.setdefault(run, []).append((task, split, row["id"]))
    found = _search(runs, corpus, report)
    records = [
        {"task": task, "split": split, "id": key, "run": run}
        for (task, split, key), run in sorted(found.items())
    ]
    write_jsonl(out / "records.jsonl", records)
    figures: dict[str, dict] = {task: {"words": lengths[task]} for task in tasks}
    for (task, split), rows in wanted.items():
        dirty = sum((task, split, row["id"]) in found for row in rows)
        shares = {"rows": len(rows), "dirty": dirty, "share": dirty / max(len(rows), 1)}
        figures[task][split] = shares
    write_json(out / "metrics.json", figures)
    test = [figures[task]["test"] for task in tasks]
    total = sum(shares["rows"] for shares in test)
    return {"test_rows": float(total), "dirty": float(sum(shares["dirty"] for shares in test))}


def run_length(lengths: Sequence[int]) -> int:
    """How many words in common make a row dirty, for rows of `lengths` words."""
    ranked = sorted(lengths)
    low, middle = (ranked[int(quantile * (len(ranked) - 1))] for quantile in (LOW, MIDDLE))
    return max(1, min(LONGEST, max(low, min(SHORTEST, middle))))


def _run_length(wanted: Mapping[tuple[str, str], Sequence[Mapping]], task: str) -> int:
    rows = [row for (name, _), rows in wanted.items() if name == task for row in rows]
    return run_length([len(_words(row["text"])) for row in rows])


def _words(text: str) -> list[str]:
    return WORD.findall(text.casefold())


def _runs(words: Sequence[str], length: int) -> Iterator[str]:
    """Every run of `length` words; all of them where they are fewer."""
    for start in range(max(len(words) - length, 0) + 1):
        if run := " ".join(words[start : start + length]):
            yield run


def _search(
    runs: Mapping[str, Sequence[tuple]], corpus: Path, report: Reporter
) -> dict[tuple, str]:
    """The rows that hold a run which a training document holds too, each with the first found.

    Where a document's word begins a run, it is looked up at each length that such runs have.
    """
    lengths: dict[str, set[int]] = {}  # of the runs that begin with a word
    for run in runs:
        words = run.split(" ")
        lengths.setdefault(words[0], set()).add(len(words))
    found: dict[tuple, str] = {}
    total = read_json(corpus / "report.json")["splits"]["train"]["rows"]
    for done, row in enumerate(read_jsonl(corpus / "train.jsonl"), 1):
        words = _words(row["text"])
        for start, known in enumerate(map(lengths.get, words)):
            for length in known or ():
                run = " ".join(words[start : start + length])
                for key in runs.get(run, ()):
                    found.setdefault(key, run)
        if done % TOLD_EVERY == 0 or done == total:
            report.progress(done, total, f"{len(found)} rows found")
    return found
