"""What a finished stage keeps until DVC has noted its result."""

from flows import finished, graph, tracking

STAGE, OUTPUT = "base@a", "a/base"


def _make(workspace):
    """A stage's result, a checkpoint of it, and the note of its run."""
    folder = workspace / "artifacts" / OUTPUT
    (folder / "deeper").mkdir(parents=True)
    (folder / "model").write_bytes(bytes(range(256)) * 100)
    (folder / "deeper" / "a b.txt").write_text("é\r\n", encoding="utf-8")
    checkpoints = finished.checkpoints_of(workspace, STAGE)
    checkpoints.mkdir(parents=True)
    (checkpoints / "step.pt").touch()
    tracking._write_note(tracking.run_note(workspace, STAGE), {"run_id": "r"})
    return folder, checkpoints


def test_a_folders_hash_is_dvcs(tmp_path):
    folder, _ = _make(tmp_path)
    graph.ensure_repository(tmp_path)
    graph.call(tmp_path, "add", "-q", str(folder))
    pointer = folder.with_name(f"{folder.name}.dvc").read_text(encoding="utf-8")
    assert f"md5: {finished.dvc_hash(folder)}\n" in pointer


def test_checkpoints_go_when_dvc_has_noted_what_was_made(tmp_path, monkeypatch):
    folder, checkpoints = _make(tmp_path)
    hashes = {f"artifacts/{OUTPUT}": "of an older one"}
    monkeypatch.setattr(graph, "locked_hashes", lambda _: hashes)
    finished.keep(tmp_path, STAGE, OUTPUT)
    finished.drop_noted(tmp_path)
    assert checkpoints.is_dir() and tracking.run_note(tmp_path, STAGE).is_file()
    hashes[f"artifacts/{OUTPUT}"] = finished.dvc_hash(folder)
    finished.drop_noted(tmp_path)
    assert not checkpoints.is_dir() and not tracking.run_note(tmp_path, STAGE).is_file()
    assert finished.noted(tmp_path) == []


def test_what_dvc_said_of_a_stage_drops_no_checkpoints_of_one_that_was_interrupted(tmp_path):
    """Such as of other settings, while DVC has those of before in its cache."""
    _, checkpoints = _make(tmp_path)
    finished.drop_noted(tmp_path, [STAGE])
    assert checkpoints.is_dir()
    finished.keep(tmp_path, STAGE, OUTPUT)
    finished.drop_noted(tmp_path, [STAGE])
    assert not checkpoints.is_dir()
