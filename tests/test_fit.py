"""What may be registered together, and released together: without a registry."""

from pathlib import Path

import pytest

from components.lineage import LINEAGE, content_of, folder_hash, write_json
from components.releases import Fit, Release, following
from flows.release import _require_fit

FIT = {"lora": Fit(2, "ask", 1)}


def test_a_dropped_adapter_holds_no_new_base_back():
    """It never had a fit on the new base, and no later base was ever served."""
    served = Release(1, {"lora": 1, "dropped": 1}, {"ask": 1})
    assert following((1, served), 2, FIT, ["lora", "dropped"]) == (
        None,
        "dropped of release 1 lack a fit on base 2",
    )
    moved, held = following((1, served), 2, FIT, ["lora"])
    assert (moved.base, moved.adapters, held) == (2, {"lora": 2}, "")
    stayed, _ = following((1, served), 1, FIT, ["lora"])
    assert stayed.adapters == {"lora": 2, "dropped": 1}


def sign(artifacts: Path, path: str, text: str, *inputs: str) -> None:
    """Make an artifact of one file, from the present `inputs`."""
    folder = artifacts / path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "file").write_text(text, encoding="utf-8")
    made_from = {source: content_of(artifacts / source) for source in inputs}
    write_json(folder / LINEAGE, {"content": folder_hash(folder), "inputs": made_from})


def make(artifacts: Path, name: str) -> None:
    """An adapter of the present base, and its evaluation."""
    made_on = content_of(artifacts / "tiny/base")
    sign(artifacts, f"tiny/adapters/{name}", made_on, "tiny/base")
    sign(artifacts, f"tiny/evaluations/{name}", made_on, f"tiny/adapters/{name}", "tiny/base")


def test_what_was_made_from_another_base_is_not_registered_with_this_one(tmp_path):
    """`dvc repro evaluation@lora` made a new base and a new lora; the soft prompt was the old's."""
    sign(tmp_path, "tiny/base", "one")
    for name in ("lora", "soft"):
        make(tmp_path, name)
    _require_fit(tmp_path, "tiny", ["lora", "soft"])
    sign(tmp_path, "tiny/base", "two")
    make(tmp_path, "lora")
    with pytest.raises(ValueError, match=r"adapters/soft was made from another tiny/base .* first"):
        _require_fit(tmp_path, "tiny", ["lora", "soft"])
    sign(tmp_path, "tiny/adapters/soft", "two", "tiny/base")
    with pytest.raises(ValueError, match="evaluations/soft was made from another tiny/adapters"):
        _require_fit(tmp_path, "tiny", ["lora", "soft"])
