"""`dvc.yaml` where the one graph does not reach: written, kept true, never over a person's own."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from components.catalogue import load, parse
from flows import expansion
from flows.places import places
from flows.side_by_side import needs
from flows.stages import STAGES
from tests.conftest import CATALOGUE, ROOT
from tests.test_comparison import WAYS

RECIPES = sorted(path.parent for path in ROOT.glob("recipes/*/pipelines.yaml"))
PLAIN = CATALOGUE.format(root=ROOT)
COMPARED = PLAIN + WAYS.format(methods="[prompt, lora]")
BROUGHT = PLAIN.replace("tasks:\n", "  mine: {base: models/mine}\ntasks:\n").replace(
    "gates:\n", "  own: {pipeline: mine, task: sentiment, method: prompt}\ngates:\n"
)


@pytest.mark.parametrize("workspace", [ROOT, *RECIPES], ids=lambda path: path.name)
def test_committed_graphs_are_those_of_their_catalogues(workspace):
    text = expansion.expanded(load(workspace, check_files=False))
    written = (workspace / "dvc.yaml").read_text(encoding="utf-8")
    assert written == (text or expansion.GRAPH.read_text(encoding="utf-8"))
    assert (workspace / "dvc.yaml").is_symlink() == (text is None)


@pytest.mark.parametrize("text", [COMPARED, BROUGHT], ids=["compared", "brought"])
def test_dvc_reads_the_stages_that_the_catalogue_has(text, tiny_workspace, monkeypatch):
    """Names and outputs; kindling and DVC must mean the same folders."""
    from dvc.repo import Repo

    (tiny_workspace / "pipelines.yaml").write_text(text, encoding="utf-8")
    catalogue = load(tiny_workspace, check_files=False)
    (tiny_workspace / "models" / "mine").mkdir(parents=True)
    said = []
    expansion.renew(tiny_workspace, catalogue, said.append)
    assert said == [
        "dvc.yaml was written anew: the catalogue's comparisons, ladders or bases have changed"
    ]
    wanted = [s for name in catalogue.pipelines for s in catalogue.stages_of(name)]
    monkeypatch.chdir(tiny_workspace)
    with Repo() as repo:
        found = {s.name: str(s.outs[0]) for s in repo.index.stages if s.cmd}
    assert found == {s: f"artifacts/{places(catalogue, s)[0]}" for s in wanted}
    expansion.require_current(tiny_workspace, catalogue)
    expansion.renew(tiny_workspace, catalogue, said.append)
    assert len(said) == 1


def test_what_gathers_results_is_made_from_them():
    """Lineage ended there: `trace` led from a comparison or a report to no base and no data."""
    catalogue = parse(COMPARED)
    name = next(iter(catalogue.comparisons))
    finals = {f"comparisons/{name}/finals/{key}" for key in catalogue.finals_of(name)}
    task = catalogue.comparisons[name].task
    read = {*finals, f"controls/{task}", f"tasks/{task}"}
    assert len(finals) > 1 and set(places(catalogue, f"comparison@{name}")[1]) == read
    adapters = catalogue.adapters_of("quickstart")
    judged = {f"quickstart/{k}/{a}" for a in adapters for k in ("evaluations", "controls")}
    assert set(places(catalogue, "report@quickstart")[1]) == {"quickstart/base", *judged}
    for stages in map(catalogue.stages_of, catalogue.pipelines):
        needs(catalogue, stages)  # each of them is made by a stage of the same run


def test_every_stage_has_a_template():
    more = YAML(typ="safe").load(expansion.MORE.read_text(encoding="utf-8"))
    one = YAML(typ="safe").load(expansion.GRAPH.read_text(encoding="utf-8"))
    assert {*more["stages"], *one["stages"]} == set(STAGES)


def test_a_stale_graph_is_refused_and_put_back(tmp_path: Path):
    path = tmp_path / "dvc.yaml"
    expansion.renew(tmp_path, parse(COMPARED), str)
    with pytest.raises(expansion.StaleGraph, match="run 'kindling status'"):
        expansion.require_current(tmp_path, parse(COMPARED.replace("seeds: 2", "seeds: 3")))
    expansion.renew(tmp_path, parse(PLAIN), str)
    assert path.read_bytes() == expansion.GRAPH.read_bytes()


def test_a_persons_own_graph_is_left_alone(tmp_path: Path):
    (tmp_path / "dvc.yaml").write_text("stages: {mine: {cmd: ls}}\n", encoding="utf-8")
    with pytest.raises(expansion.StaleGraph, match="delete this one"):
        expansion.renew(tmp_path, parse(COMPARED), str)
    assert "mine" in (tmp_path / "dvc.yaml").read_text(encoding="utf-8")
