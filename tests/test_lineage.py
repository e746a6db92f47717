"""Content hashes: what changes them and what must not."""

import pytest

from components import lineage


def test_folder_hash_sees_names_and_bytes_but_not_the_lineage(tmp_path):
    (tmp_path / "a").write_text("1")
    first = lineage.folder_hash(tmp_path)
    (tmp_path / lineage.LINEAGE).write_text("{}")
    assert lineage.folder_hash(tmp_path) == first
    (tmp_path / "a").rename(tmp_path / "b")
    renamed = lineage.folder_hash(tmp_path)
    (tmp_path / "b").write_text("2")
    assert len({first, renamed, lineage.folder_hash(tmp_path)}) == 3


def test_text_hash_keeps_borders():
    assert lineage.text_hash("ab", "c") != lineage.text_hash("a", "bc")


def test_value_hash_ignores_key_order():
    assert lineage.value_hash({"a": 1, "b": 2}) == lineage.value_hash({"b": 2, "a": 1})


def test_json_is_written_whole_and_reproducibly(tmp_path):
    lineage.write_json(tmp_path / "x.json", {"b": 1, "a": "ü"})
    assert lineage.read_json(tmp_path / "x.json") == {"a": "ü", "b": 1}
    with pytest.raises(ValueError):
        lineage.write_json(tmp_path / "x.json", {"a": float("nan")})
    assert lineage.read_json(tmp_path / "x.json") == {"a": "ü", "b": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_folder_without_lineage_names_the_remedy(tmp_path):
    with pytest.raises(ValueError, match="dvc repro"):
        lineage.content_of(tmp_path)
