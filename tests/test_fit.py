"""What may be registered together, and released together: without a registry."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from components.lineage import LINEAGE, content_of, folder_hash, text_hash, write_json
from components.registry import CANDIDATE, CONTENT, WORKSPACE, Registry
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


class Killed:
    """A store whose newest version of model and prompt lack the alias that was to be set next."""

    def __init__(self, content: str) -> None:
        self.content = content
        self.aliases: dict[str, int | str] = {}

    def search_model_versions(self, _filter: str) -> list[SimpleNamespace]:
        return self._versions("tiny.base", {CONTENT: self.content})

    def search_prompt_versions(self, name: str) -> list[SimpleNamespace]:
        return self._versions(name, {CONTENT: text_hash("{{text}}", "{}")})

    def _versions(self, name: str, tags: dict[str, str]) -> list[SimpleNamespace]:
        """Two versions: another, and that of `tags`."""
        about = [tags | {CONTENT: "another"}, tags]
        return [
            SimpleNamespace(name=name, version=str(n), tags={WORKSPACE: "root", **each})
            for n, each in enumerate(about, 1)
        ]

    def get_registered_model(self, name: str) -> SimpleNamespace:
        aliases = {CANDIDATE: self.aliases.get(name, "1")}
        return SimpleNamespace(aliases=aliases)

    def get_prompt_version(self, name: str, _version: int) -> SimpleNamespace:
        return SimpleNamespace(aliases=[CANDIDATE] if name in self.aliases else [])

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        assert alias == CANDIDATE and name not in self.aliases
        self.aliases[name] = version

    set_prompt_alias = set_registered_model_alias


def test_a_registration_killed_before_its_alias_is_finished_by_the_next(tmp_path):
    """The version's content was known, so the newest version never became the candidate."""
    sign(tmp_path, "tiny/base", "one")
    store = Registry.__new__(Registry)
    store.workspace, store.client = "root", Killed(content_of(tmp_path / "tiny/base"))
    for _ in range(2):  # the second time there is nothing to mend
        assert store.register_base("tiny", tmp_path / "tiny/base", lambda: "run") == (2, False)
        assert store.register_prompt("ask", {"template": "{{text}}", "answer": {}}) == (2, False)
        assert store.client.aliases == {"tiny.base": "2", "ask": 2}
