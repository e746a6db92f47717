"""One stage in this process."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from components.catalogue import load
from flows import expansion, making
from flows.stages import STAGES
from flows.work import Work
from tests.conftest import CATALOGUE, ROOT, give_store, isolate, write_data

STAGE = "dataset@tales"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A workspace with a copy of what the stage is made by, to be edited."""
    folder = tmp_path_factory.mktemp("stage")
    write_data(folder / "data", rows=40)
    catalogue = folder / "pipelines.yaml"
    catalogue.write_text(CATALOGUE.format(root="code"), encoding="utf-8")
    shutil.copy(expansion.GRAPH, folder / "dvc.yaml")
    files = expansion.code_of(load(folder, check_files=False), STAGE)
    for file in [*files, "components/gate.py"]:
        target = folder / "code" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, target)
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, give_store(folder))
        yield folder


@pytest.fixture
def edited(request, workspace, monkeypatch) -> Path:
    """A file of `workspace`, which the stage itself edits while it runs."""
    file, old, new = request.param
    path = workspace / file
    before = path.read_text(encoding="utf-8")
    assert old in before

    def run(work: Work) -> dict[str, float]:
        (work.out / "rows").write_text("made", encoding="utf-8")
        path.write_text(before.replace(old, new), encoding="utf-8")
        return {}

    monkeypatch.setitem(STAGES, "dataset", replace(STAGES["dataset"], run=run))
    yield path
    path.write_text(before, encoding="utf-8")


@pytest.mark.parametrize(
    "edited",
    [
        ("pipelines.yaml", "tales.txt, format: text", "tales.txt, format: markdown"),
        ("data/tales.txt", "film 7 ", "film 7007 "),
        ("code/components/splits.py", "def ", "# edited\ndef "),
    ],
    indirect=True,
)
def test_a_stage_fails_whose_origin_changed_while_it_worked(workspace, edited):
    """DVC noted the new state of all that the stage reads, and the old result as up to date."""
    with pytest.raises(ValueError, match=rf"changed while {STAGE} was made, .* run it again"):
        making.run(workspace, STAGE)


@pytest.mark.parametrize(
    "edited",
    [
        ("pipelines.yaml", "rank: 2", "rank: 4"),
        ("code/components/gate.py", "def ", "# edited\ndef "),
    ],
    indirect=True,
)
def test_a_stage_does_not_mind_what_it_does_not_read(workspace, edited):
    making.run(workspace, STAGE)


@pytest.mark.parametrize(
    ("file", "old", "new", "same"),
    [
        ("code/components/gate.py", "def ", "# edited\ndef ", True),
        ("pipelines.yaml", "tales.txt, format: text", "tales.txt, format: markdown", False),
        ("pipelines.yaml", "format: text}", "format: text, on_change: version}", True),
        ("code/components/splits.py", "def ", "# edited\ndef ", False),
    ],
)
def test_checkpoints_are_of_what_dvc_knows_a_stage_by(workspace, file, old, new, same):
    """A comment in any file of a folder, or a key that shapes nothing, began a training anew."""
    path = workspace / file
    before = path.read_text(encoding="utf-8")

    def marks() -> tuple[str, str]:
        catalogue = load(workspace, check_files=False)
        return making._marks(making._state(workspace, catalogue, STAGE))

    own = marks()
    assert old in before
    path.write_text(before.replace(old, new, 1), encoding="utf-8")
    try:
        assert (marks() == own) == same
    finally:
        path.write_text(before, encoding="utf-8")


def test_how_often_checkpoints_are_written_shapes_no_block():
    catalogue = load(ROOT / "recipes" / "ladder_world", check_files=False)
    stages = [s for name in catalogue.targets for s in catalogue.stages_of(name)]
    quickstart = load(ROOT, check_files=False)
    blocks = [catalogue.block(stage) for stage in stages]
    blocks += [quickstart.block(s) for n in quickstart.targets for s in quickstart.stages_of(n)]
    assert any("learning_rate" in str(block) for block in blocks)
    assert "checkpoint_minutes" not in str(blocks) and "on_change" not in str(blocks)
