"""Data sets of a hub, from local folders of the same form."""

import json

import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from components.catalogue import load
from components.hub import import_dataset
from flows.cli import app

ROWS = [{"sentence": f"film {n} is fine", "idx": n} for n in range(20)]


@pytest.fixture
def hub(tmp_path):
    """A folder as a hub's repository of data is laid out."""
    folder = tmp_path / "sst"
    folder.mkdir()
    for split in ("train", "validation", "test"):
        lines = (json.dumps(row) for row in ROWS)
        (folder / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_brings_every_split_and_a_block_that_reads_it(hub, tiny_workspace):
    done = CliRunner().invoke(
        app, ["-C", str(tiny_workspace), "data", "import", f"hub:{hub}", "data/films"]
    )
    assert done.exit_code == 0, done.output
    table = pyarrow.parquet.read_table(tiny_workspace / "data" / "films" / "validation.parquet")
    assert table.to_pylist() == ROWS
    assert "dvc add data/films" in done.output
    block = done.output[done.output.index("films:") :]
    assert "path: data/films" in block and "text: sentence  # of sentence, idx" in block
    catalogue = tiny_workspace / "pipelines.yaml"
    text = catalogue.read_text(encoding="utf-8")
    indented = "\n".join(f"  {line}" for line in block.strip().splitlines())
    catalogue.write_text(text.replace("datasets:\n", f"datasets:\n{indented}\n"), encoding="utf-8")
    assert load(tiny_workspace).datasets["films"].text == "sentence"


def test_a_taken_folder_and_an_unknown_set_are_refused(hub, tmp_path):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "file").touch()
    with pytest.raises(ValueError, match="is there already"):
        import_dataset(str(hub), taken)
    with pytest.raises(ValueError, match=r"hub:\./nowhere could not be loaded"):
        import_dataset("./nowhere", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_another_source_is_refused(tiny_workspace):
    done = CliRunner().invoke(app, ["-C", str(tiny_workspace), "data", "import", "s3:x", "data/x"])
    named = CliRunner().invoke(app, ["-C", str(tiny_workspace), "data", "import", "gpt2", "x"])
    assert "did you mean model:gpt2 or hub:gpt2?" in str(named.exception)
    assert done.exit_code != 0 and "names no source" in str(done.exception)


def test_a_model_of_the_hubs_form_becomes_a_base(folders, tmp_path, monkeypatch):
    from components.models.brought import bring
    from components.reporter import Silent
    from tests.test_brought import make_family

    monkeypatch.chdir(tmp_path)
    source = make_family("gpt2", tmp_path / "source", folders["tokenizer"])
    command = ["data", "import", f"model:{source}", "models/mine"]
    done = CliRunner().invoke(app, ["-C", str(tmp_path), *command])
    assert done.exit_code == 0, done.output
    assert "under 'pipelines'" in done.output and "mine: {base: models/mine}" in done.output
    (tmp_path / "base").mkdir()
    bring(tmp_path / "models" / "mine", tmp_path / "base", Silent())
    again = CliRunner().invoke(app, ["-C", str(tmp_path), *command])
    assert "is there already" in str(again.exception)
    absent = CliRunner().invoke(app, ["-C", str(tmp_path), *command[:2], "model:./nowhere", "x"])
    assert "could not be loaded" in str(absent.exception) and not (tmp_path / "x").exists()
