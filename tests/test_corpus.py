"""Data sets: what is refused, what is dropped, and where a row falls."""

import json
import subprocess
import sys
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from components.corpus import build_corpus
from components.dataset import Dataset
from components.documents import documents_of
from components.ingest import ingest
from components.lineage import folder_hash, read_json, read_jsonl
from components.readers import raw_rows
from components.reporter import Silent
from components.splits import SPLITS
from tests.conftest import SST2

LABELS = {"0": "negative", "1": "positive"}
STEMS = {"train": "train", "validation": "val", "test": "test_2016"}
PARALLEL = {"format": "parallel", "splits": STEMS, "source": "en", "target": "de"}


def block(**keys: Any) -> Dataset:
    return Dataset.model_validate({"path": "data", "format": "jsonl", **keys})


def run(dataset: Dataset, path: Path, out: Path) -> tuple[dict[str, float], dict[str, list[dict]]]:
    out.mkdir(parents=True)
    figures = ingest(dataset, path, out, Silent())
    return figures, {split: list(read_jsonl(out / f"{split}.jsonl")) for split in SPLITS}


def write_rows(file: Path, rows: list[Mapping[str, Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def three_files(folder: Path, **texts: list[str]) -> Dataset:
    for split, rows in texts.items():
        write_rows(folder / f"{split}.jsonl", [{"text": text} for text in rows])
    return block(splits={split: f"{split}.jsonl" for split in texts})


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"label": "stars"}, "'stars' with labels {}"),
        ({"labels": LABELS}, "label None"),
        ({"label": "y", "labels": {"0": "same", "1": "same"}}, "two names or more"),
        ({"kinds": ["review"]}, "not to jsonl"),
        ({"seed": 1}, "seed belongs to format: world"),
        ({"size": 5}, "size: 5"),
        ({"format": "world"}, "size: None"),
        ({"format": "world", "size": 5, "splits": {"train": "a"}}, "its own splits"),
        ({"format": "world", "size": 5, "group": "file"}, "group: the world is no file"),
        ({"format": "parallel", "splits": {"train": "a"}}, "source None: parallel lines need both"),
        ({**PARALLEL, "splits": {}}, "splits {}, source 'en': parallel lines need both"),
        ({**PARALLEL, "steps": "en"}, "steps: parallel lines are a source and a target"),
        ({"splits": {"train": "a"}, "group": "file"}, "splits name one file each"),
        ({"group": "book"}, "'file' or 'document'"),
        ({"format": "world", "size": 5, "kinds": []}, "kinds"),
        ({"splits": {"dev": "dev.jsonl"}}, "dev"),
        ({"splits": {"test": "test.jsonl"}}, "no train, only test"),
        ({"source": "en"}, "'en', target None"),
        ({"source": "en", "target": "fr", "text": "en"}, "pairs have no text"),
        ({"format": "text", "text": "body"}, "text has none"),
        ({"columns": {"train": ["text"]}}, "not to jsonl"),
        ({"format": "tsv", "columns": {"train": ["a", "b"]}}, "['a', 'b']"),
        ({"format": "tsv", "columns": {"train": ["text", "text"]}}, "each name once"),
        ({"format": "tsv", "columns": {"test": ["text"]}}, "columns of test"),
        ({"text": {"test": "body"}}, "files for train"),
        ({"max_bad_rows": -1}, "max_bad_rows"),
        ({"on_change": "ignore"}, "on_change"),
        ({"format": "xml"}, "xml"),
    ],
)
def test_impossible_combinations_are_refused(keys: dict, told: str):
    with pytest.raises(ValidationError) as error:
        block(**keys)
    assert told in str(error.value)


def test_numbers_as_yaml_keys_are_labels():
    """YAML reads `0:` as a number, files hold the text "0", JSON may hold either."""
    assert block(label="y", labels={0: "no", 1: "yes"}).labels == {"0": "no", "1": "yes"}


GOOD = b'{"text": "one"}\n'
REFUSED = [
    ("jsonl", b"", {}, "data.jsonl: the file is empty"),
    ("jsonl", GOOD + b'{"text": "caf\xe9"}\n', {}, "data.jsonl:2: not UTF-8 (byte b'\\xe9'"),
    ("jsonl", GOOD + b"\n{'text'}\n", {}, "data.jsonl:3: \"{'text'}\" is no JSON"),
    ("jsonl", GOOD + b"[1]\n", {}, "data.jsonl:2: '[1]' is no JSON object"),
    ("jsonl", b'{"body": "one"}\n', {}, "no value in column 'text'; the row has body"),
    ("jsonl", GOOD + b'{"text": " "}\n', {}, "data.jsonl:2: column 'text' is empty"),
    ("jsonl", b'{"text": ["a"]}\n', {}, "which is no text"),
    ("jsonl", b'{"text": "\\ud83d"}\n', {}, "half a character"),
    ("jsonl", b'{"text": "a", "y": 2}\n', {"label": "y", "labels": LABELS}, "unknown label '2'"),
    ("tsv", b"text\ty\none\t0\ntwo\n", {}, "data.tsv:3: 1 cells for the 2 columns text, y: 'two'"),
    ("tsv", b"text\ty\none\t0\tx\n", {}, "data.tsv:2: 3 cells"),
    ("tsv", b"body\ty\none\t0\n", {}, "data.tsv:1: no column 'text' in the header, only body, y"),
    ("csv", b'text,y\n"a\nb",0\nc\n', {}, "data.csv:4: 1 cells"),
    ("csv", b'text,y\n"a,0\nb,1\n', {}, "is a quote open?"),
    ("json", b'[{"text": "a"}, {]', {}, "not readable as json"),
    ("parquet", b"PAR0 nothing of the kind", {}, "not readable as parquet"),
    ("text", b"caf\xe9\n", {}, "data.text:1: not UTF-8"),
]


@pytest.mark.parametrize(("form", "content", "keys", "told"), REFUSED)
def test_bad_data_is_refused_by_place_and_value(
    form: str, content: bytes, keys: dict, told: str, tmp_path: Path
):
    file = tmp_path / f"data.{form}"
    file.write_bytes(content)
    with pytest.raises(ValueError) as error:
        run(block(format=form, **keys), file, tmp_path / "out")
    assert told in str(error.value)


def test_missing_and_misplaced_files_are_refused(tmp_path: Path):
    folder = tmp_path / "data"
    with pytest.raises(ValueError, match=r"data: no such .* run 'dvc pull'"):
        run(block(), folder, tmp_path / "a")
    folder.mkdir()
    with pytest.raises(ValueError, match=r"holds no \.jsonl file"):
        run(block(), folder, tmp_path / "b")
    (folder / "train.jsonl").mkdir()
    with pytest.raises(ValueError, match=r"is no file \(split train\)"):
        run(block(splits={"train": "train.jsonl"}), folder, tmp_path / "c")
    file = write_rows(tmp_path / "rows.jsonl", [{"text": "one"}])
    with pytest.raises(ValueError, match="below a folder"):
        run(block(splits={"train": "train.jsonl"}), file, tmp_path / "d")
    with pytest.raises(ValueError, match="train 1, validation 0, test 0"):
        run(block(), file, tmp_path / "e")


@pytest.mark.parametrize(("allowed", "accepted"), [(1, False), (2, True)])
def test_bad_rows_are_skipped_up_to_the_limit(allowed: int, accepted: bool, tmp_path: Path):
    folder = tmp_path / "data"
    dataset = three_files(folder, train=["a", "b"], validation=["c"], test=["d"])
    with (folder / "train.jsonl").open("a") as file:
        file.write('{"text": ""}\nnot JSON\n{"text": "e"}\n')
    dataset = dataset.model_copy(update={"max_bad_rows": allowed})
    if not accepted:
        with pytest.raises(ValueError, match=r"train\.jsonl:4: .*max_bad_rows is 1"):
            run(dataset, folder, tmp_path / "out")
        return
    figures, rows = run(dataset, folder, tmp_path / "out")
    assert figures["bad_rows"] == 2
    assert [row["text"] for row in rows["train"]] == ["a", "b", "e"]


def test_duplicates_and_leaks_are_dropped_and_counted(tmp_path: Path):
    folder = tmp_path / "data"
    dataset = three_files(
        folder,
        train=["own", "own", "Seen  in test", "seen in validation", "other"],
        validation=["seen in VALIDATION", "in both", "kept"],
        test=["seen in test", "In both"],
    )
    figures, rows = run(dataset, folder, tmp_path / "out")
    assert [row["text"] for row in rows["train"]] == ["own", "other"]
    assert [row["text"] for row in rows["validation"]] == ["seen in VALIDATION", "kept"]
    assert (figures["duplicates"], figures["leaks"], figures["dropped"]) == (1, 3, 4)
    report = read_json(tmp_path / "out" / "report.json")
    assert (report["duplicates"], report["leaks"], report["bad_rows"]) == (1, 3, 0)
    assert report["splits"]["train"] == {
        "rows": 2,
        "characters": 8,
        "words": 2,
        "groups": {"text": 2},
        "length_quantiles": {"0": 3, "5": 3, "50": 3, "95": 5, "100": 5},
        "word_quantiles": {"0": 1, "5": 1, "50": 1, "95": 1, "100": 1},
    }


def test_a_row_stays_in_its_split_when_data_grows(tmp_path: Path):
    rows = [{"text": f"text number {n}"} for n in range(600)]
    small = run(block(), write_rows(tmp_path / "s.jsonl", rows[:300]), tmp_path / "small")[1]
    large = run(block(), write_rows(tmp_path / "l.jsonl", rows[::-1]), tmp_path / "large")[1]
    for split in SPLITS:
        assert {r["text"] for r in small[split]} <= {r["text"] for r in large[split]}
        assert 0.02 < len(large["validation"]) / 600 < 0.1


def test_what_differs_in_case_or_label_falls_in_one_split(tmp_path: Path):
    """Hashed as they stand, such rows would leak from a split into another."""
    texts = [f"text number {n}" for n in range(200)]
    rows = [{"text": t, "y": 0} for t in texts] + [{"text": t.upper(), "y": 1} for t in texts]
    dataset = block(label="y", labels=LABELS)
    figures, found = run(dataset, write_rows(tmp_path / "d.jsonl", rows), tmp_path / "out")
    assert figures["leaks"] == 0
    assert sum(map(len, found.values())) == 400


def test_pairs_are_split_by_their_source(tmp_path: Path):
    """Tatoeba repeats English sentences with several translations."""
    rows = [{"en": f"sentence {n // 2}", "fr": f"phrase {n}"} for n in range(400)]
    dataset = block(source="en", target="fr")
    figures, found = run(dataset, write_rows(tmp_path / "d.jsonl", rows), tmp_path / "out")
    sources = [{row["source"] for row in found[split]} for split in SPLITS]
    assert not sources[0] & sources[1] and not sources[0] & sources[2]
    assert figures["train"] + figures["validation"] + figures["test"] == 400
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    build_corpus(tmp_path / "out", corpus, Silent())
    first = found["train"][0]
    document = next(read_jsonl(corpus / "train.jsonl"))
    assert document == {"text": f"{first['source']}\n{first['target']}"}


def write_parallel(folder: Path, lines: int = 3) -> Path:
    folder.mkdir()
    for stem in STEMS.values():
        for side in ("en", "de"):
            text = "".join(f"{side} of {stem} {n}\n" for n in range(lines))
            (folder / f"{stem}.{side}").write_text(text, encoding="utf-8")
    return folder


def test_parallel_lines_are_pairs(tmp_path: Path):
    found = run(block(**PARALLEL), write_parallel(tmp_path / "d"), tmp_path / "out")[1]
    for split, stem in STEMS.items():
        pairs = [{"source": f"en of {stem} {n}", "target": f"de of {stem} {n}"} for n in range(3)]
        assert found[split] == pairs


def test_parallel_files_of_unequal_length_are_refused_with_the_line_and_both_counts(tmp_path: Path):
    folder = write_parallel(tmp_path / "d")
    with (folder / "val.de").open("a", encoding="utf-8") as file:
        file.write("one more\nand another")
    said = r"val\.de:4: no line stands beside it: .*val\.en has 3 lines and .*val\.de 5: parallel"
    with pytest.raises(ValueError, match=said):
        run(block(**PARALLEL), folder, tmp_path / "out")
    (folder / "val.de").write_text("one\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"val\.en:2: no line stands beside it"):
        run(block(**PARALLEL), folder, tmp_path / "other")


def test_an_empty_line_of_parallel_files_is_named(tmp_path: Path):
    folder = write_parallel(tmp_path / "d")
    (folder / "train.de").write_text("eins\n\ndrei\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"train\.en:2: column 'de' is empty"):
        run(block(**PARALLEL), folder, tmp_path / "out")


def test_the_worlds_pairs_keep_their_gold_alignment(tmp_path: Path):
    keys = {"format": "world", "size": 300, "kinds": ["translation"]}
    found = run(block(**keys, source="source", target="target"), tmp_path, tmp_path / "out")[1]
    for row in found["test"]:
        source, target = row["source"].split(), row["target"].split()
        assert all(source[i] and target[j] for i, j in row["alignment"])
    assert found["test"]


def test_columns_of_the_same_name_as_ours_stay_out(tmp_path: Path):
    """`split`, `group`, `kind` are the world's; a user's file may have such columns too."""
    rows = [{"text": f"t {n}", "split": "dev", "group": 1, "kind": 7} for n in range(300)]
    found = run(block(), write_rows(tmp_path / "d.jsonl", rows), tmp_path / "out")[1]
    assert all(set(row) == {"text"} for split in SPLITS for row in found[split])


def test_formats_agree(tmp_path: Path):
    """One set of rows, with quotes, in every format with columns."""
    import pyarrow
    from pyarrow import parquet

    texts = [f'he said "{n}' if n % 2 else f"plain {n}" for n in range(300)]
    table = [{"text": text, "y": n % 2} for n, text in enumerate(texts)]
    files = {form: tmp_path / f"d.{form}" for form in ("jsonl", "json", "tsv", "csv", "parquet")}
    write_rows(files["jsonl"], table)
    files["json"].write_text(json.dumps(table))
    files["tsv"].write_bytes(
        b"text\ty\r\n" + b"".join(b"%b\t%d\r\n" % (r["text"].encode(), r["y"]) for r in table)
    )
    quoted = (row["text"].replace('"', '""') for row in table)
    lines = (f'"{text}",{row["y"]}\n' for text, row in zip(quoted, table, strict=True))
    files["csv"].write_text("\ufefftext,y\n" + "".join(lines), encoding="utf-8")
    parquet.write_table(pyarrow.Table.from_pylist(table), files["parquet"])
    found = set()
    for form, file in files.items():
        run(block(format=form, label="y", labels=LABELS), file, tmp_path / "out" / form)
        found.add(folder_hash(tmp_path / "out" / form))
    assert len(found) == 1


def test_a_cell_may_hold_a_long_article(tmp_path: Path):
    """Python's csv refuses more than 131,072 characters unless it is told otherwise."""
    file, article = tmp_path / "d.csv", "word " * 40_000
    file.write_text(f'text,y\n"{article}",0\n', encoding="utf-8")
    (row,) = raw_rows(block(format="csv"), file, "train")
    assert row.values["text"] == article


@pytest.mark.parametrize("form", ["text", "markdown"])
def test_a_byte_order_mark_is_no_part_of_a_document(form: str, tmp_path: Path):
    """Before a header it was taken for text, and so was the header."""
    file = tmp_path / "book"
    file.write_text("\ufeff# Title: A Tale\n\nOnce upon a time.\n", encoding="utf-8")
    texts = [row["text"] for _, row in documents_of(file, form)]
    assert texts == ["\n\n".join(["# Title: A Tale"] * (form == "text") + ["Once upon a time."])]


def test_names_that_look_like_patterns_are_names(tmp_path: Path):
    file = write_rows(tmp_path / "a[1]*.jsonl", [{"text": f"t {n}"} for n in range(300)])
    assert sum(map(len, run(block(), file, tmp_path / "out")[1].values())) == 300


def write_books(folder: Path, numbers: range) -> Path:
    folder.mkdir(exist_ok=True)
    for book in numbers:
        body = "\n\n".join(f"Book {book} says {n}. {'word ' * 150}" for n in range(4))
        header = f"# Title: T{book}\n\n## Author: A\n\n-----\n\n"
        (folder / f"book{book}.md").write_text(f"{header}{body}\n")
    return folder


def test_a_book_is_in_one_split(tmp_path: Path):
    books = write_books(tmp_path / "books", range(120))
    found = run(block(format="markdown"), books, tmp_path / "out")[1]
    held = {s: {row["text"].split()[1] for row in found[s]} for s in SPLITS}
    assert all(row["text"].startswith("Book") for row in found["train"])
    assert all(held.values()) and sum(map(len, held.values())) == 120


def test_a_book_stays_in_its_split_when_books_are_added(tmp_path: Path):
    """The fiftieth file once turned the split of documents into one of files: all were shuffled."""
    books = write_books(tmp_path / "books", range(49))
    before = run(block(format="markdown"), books, tmp_path / "before")[1]
    write_books(books, range(49, 60))
    after = run(block(format="markdown"), books, tmp_path / "after")[1]
    for split in SPLITS:
        assert {row["text"] for row in before[split]} <= {row["text"] for row in after[split]}


def test_few_files_are_refused_with_the_remedy(tmp_path: Path):
    books = write_books(tmp_path / "books", range(3))
    with pytest.raises(ValueError, match=r"no rows are left for .* or state group: document"):
        run(block(format="markdown"), books, tmp_path / "a")
    write_books(books, range(60))
    held = run(block(format="markdown", group="document"), books, tmp_path / "b")[1]
    assert sum(map(len, held.values())) == 120 and all(held.values())


def test_files_of_one_name_in_two_folders_are_two_groups(tmp_path: Path):
    for folder in ("a", "b"):
        write_rows(tmp_path / folder / "1.jsonl", [{"text": folder}, {"text": f"{folder} too"}])
    found = list(raw_rows(block(group="file"), tmp_path, "train"))
    assert [raw.group for raw in found] == ["a/1.jsonl"] * 2 + ["b/1.jsonl"] * 2
    assert {raw.group for raw in raw_rows(block(), tmp_path, "train")} == {None}


def test_one_file_is_split_by_documents(tmp_path: Path):
    """As a group it would be train, validation or test as a whole."""
    file = write_rows(tmp_path / "d.jsonl", [{"text": f"t {n}"} for n in range(300)])
    assert all(run(block(), file, tmp_path / "a")[1].values())
    with pytest.raises(ValueError, match=r"is one file, and group: file would .* group: document"):
        run(block(group="file"), file, tmp_path / "b")


def test_rows_are_streamed(tmp_path: Path):
    """Twenty megabytes are read with a small part of that in memory."""
    file = tmp_path / "d.jsonl"
    with file.open("w") as rows:
        for n in range(1000):
            rows.write(json.dumps({"text": f"{n} " + "x" * 21_000}) + "\n")
    run(
        block(),
        write_rows(tmp_path / "warm.jsonl", [{"text": f"{n}"} for n in range(300)]),
        tmp_path / "w",
    )
    out = tmp_path / "out"
    out.mkdir()
    tracemalloc.start()
    ingest(block(), file, out, Silent())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert file.stat().st_size > 20e6
    assert peak < 10e6


def test_the_world_keeps_its_splits_and_probabilities(tmp_path: Path):
    from components.world import documents, split_of

    dataset = block(format="world", size=400, seed=3)
    found = run(dataset, tmp_path, tmp_path / "out")[1]
    places = {row["text"]: split_of(row) for row in documents(400, 3, None)}
    for split in SPLITS:
        assert all(set(row) == {"text", "kind", "logprob"} for row in found[split])
        assert all(places[row["text"]] == split for row in found[split])


def test_a_corpus_keeps_texts_and_drops_what_leaks(tmp_path: Path):
    for split, texts in {"train": ["A b", "c"], "validation": ["d"], "test": ["a  B"]}.items():
        write_rows(tmp_path / "d" / f"{split}.jsonl", [{"text": t, "label": "x"} for t in texts])
    out = tmp_path / "out"
    out.mkdir()
    figures = build_corpus(tmp_path / "d", out, Silent())
    assert list(read_jsonl(out / "train.jsonl")) == [{"text": "c"}]
    assert (figures["train"], figures["dropped"], figures["words"]) == (1, 1, 4)
    (tmp_path / "d" / "test.jsonl").unlink()
    with pytest.raises(ValueError, match="run 'dvc repro dataset@d'"):
        build_corpus(tmp_path / "d", out, Silent())


def test_the_block_is_read_without_heavy_libraries():
    modules = (
        "components.ingest",
        "components.corpus",
        "components.tokenizer",
        "components.tokens",
    )
    code = f"import sys, {', '.join(modules)}; " + (
        "print({'torch', 'transformers', 'datasets', 'tokenizers'} & set(sys.modules))"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


def test_sst2_as_it_is(sst2: Path, tmp_path: Path):
    """Carriage returns, stray quotes, a second name for a column, a file without a header."""
    figures, rows = run(block(**SST2), sst2, tmp_path / "out")
    counts = {split: int(figures[split]) for split in SPLITS}
    assert counts == {"train": 66978, "validation": 872, "test": 1821}
    assert (figures["duplicates"], figures["leaks"]) == (366, 5)
    assert {row["label"] for row in rows["test"]} == {"negative", "positive"}
    assert not any("\r" in row["text"] or "\t" in row["text"] for row in rows["train"])
