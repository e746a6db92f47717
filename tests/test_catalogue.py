"""Mistakes in the catalogue are refused before any work, with place, value and remedy."""

from pathlib import Path

import pytest

from components.catalogue import CatalogueError, edit, load, parse
from tests.conftest import CATALOGUE, ROOT

TEXT = CATALOGUE.format(root=".")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("rank: 2", "rnk: 2", "adapters.lora.rnk: unknown key 'rnk'; did you mean 'rank'"),
        ("rank: 2", "rank: two", "adapters.lora.rank: expected a whole number, got 'two'"),
        (
            "method: lora",
            "method: lara",
            "adapters.lora.method: there is no method 'lara'; did you",
        ),
        (
            "method: lora",
            "metod: lora",
            "adapters.lora.metod: unknown key 'metod'; did you mean 'm",
        ),
        ("method: lora, ", "", "adapters.lora.method: this key is missing; known: prompt, lora"),
        ("root: .", "rot: .", "root: this key is missing; add 'root: .'"),
        ("task: sentiment, method: full", "task: sentimant, method: full", "did you mean 'sent"),
        ("corpus: tales", "corpus: tails", "no datasets block is called 'tails'"),
        ("width: 32", "width: 33", "must be a multiple of 2 x heads"),
        ("tokens: 20480", "tokens: 100", "is less than batch_tokens"),
        ("vocab_size: 320", "vocab_size: 20", "vocab_size"),
        ("baseline: zero_shot", "baseline: zero", "no adapters block is called 'zero'"),
        ("format: text", "format: txt", "datasets.tales.format: there is no format 'txt'; did you"),
        ('negative: " bad"', 'negative: " good"', "answers must differ"),
        ("{{text}} It is", "It is", "has no {{variable}}"),
        ("adapters:\n", "adapters:\n  base: {}\n", "adapters.base"),
        ("adapters:\n", "adapters:\n  a b: {}\n", "adapters.a b.method: this key is missing"),
        ("gates:", "gates: [", "not valid YAML"),
        ("jobs: 2,", "jobs: two,", "compute.jobs: expected a whole number, got 'two'"),
        ("jobs: 2,", "jobs: 2, nodes: 2,", "compute: nodes 2 with engine local need 'rendezvous"),
        ("jobs: 2,", "jobs: 2, nodes: 2, rendezvous: here,", "(got here)"),
        ("jobs: 2,", "jobs: 2, rendezvous: 'a:1',", "rendezvous a:1 has no use for nodes 1 with"),
        ("jobs: 2,", "jobs: 2, engine: spark,", "compute.engine"),
    ],
)
def test_mistakes_are_named(old, new, said):
    assert old in TEXT
    with pytest.raises(CatalogueError) as refused:
        parse(TEXT.replace(old, new))
    assert said in str(refused.value)


def test_the_line_is_named():
    line = next(n for n, text in enumerate(TEXT.splitlines(), 1) if "rank: 2" in text)
    with pytest.raises(CatalogueError, match=rf"pipelines.yaml:{line}: adapters.lora.rnk"):
        parse(TEXT.replace("rank: 2", "rnk: 2"))


def test_missing_files_are_named(tmp_path: Path):
    with pytest.raises(CatalogueError, match="is no kindling workspace"):
        load(tmp_path)
    (tmp_path / "pipelines.yaml").write_text(CATALOGUE.format(root=ROOT))
    with pytest.raises(CatalogueError, match=r"there is no data/tales\.txt"):
        load(tmp_path)
    (tmp_path / "data.dvc").touch()  # of the folder that holds them all, as on a fresh clone
    load(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "compute: {threads: 2, jobs: 2, disk_gb: 0.1}\n",
            "",
            "add 'compute: {threads: 2, jobs: 1}'",
        ),
        ("jobs: 2, ", "", "compute.jobs: this key is missing; add 'jobs: 1'"),
        ("threads: 2, ", "", "compute.threads: this key is missing; add 'threads: 2'"),
    ],
)
def test_what_dvc_reads_must_be_there(old, new, said):
    """DVC knows no defaults: `compute` left out failed at the base, after minutes of other work."""
    test_mistakes_are_named(old, new, said)


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        (
            "answer: {positive:",
            "answer: {positiv:",
            "answer:",
            "prompts.sentiment.answer.positiv: data set 'reviews' has no label 'positiv'; "
            "did you mean 'positive'? known: negative, positive",
        ),
        (
            'answer: {positive: " good",',
            'answer: {neutral: " so", negative: " bad" } #',
            "answer:",
            "prompts.sentiment.answer: no answer for positive; data set 'reviews' has the labels",
        ),
        (
            "{dataset: reviews,",
            "{dataset: tales,",
            "dataset: tales",
            "tasks.sentiment.dataset: a classification task needs labels, and data set 'tales' "
            "has no 'label'; data sets with labels: reviews",
        ),
        (
            "{{text}} It",
            "{{review}} It",
            "template:",
            "prompts.sentiment.template: rows of data set 'reviews' have no 'review'; known: text",
        ),
        (
            "batch_tokens: 512",
            "batch_tokens: 500",
            "pretrain:",
            "pretrain.batch_tokens: 500 is no multiple of model.context 64; 512 would be",
        ),
        (
            "jobs: 2,",
            "jobs: 2, engine: ray, nodes: 3,",
            "pretrain:",
            "pretrain.batch_tokens: a step's 8 sequences of 64 tokens cannot be shared evenly by 3 "
            "processes (compute: nodes x processes)",
        ),
        (
            "parameters: {pipeline: quickstart}",
            "parameters: {pipeline: quickstrat}",
            "parameters:",
            "deployments.0.parameters.pipeline: no pipelines block is called 'quickstrat'; did you "
            "mean 'quickstart'?",
        ),
        (
            "\ngates:\n",
            "\ngates:\n  again: {minimum: 0.5, baseline: full}\n",
            "sentiment: {minimum",
            "gates.sentiment: gate 'again' already judges task 'sentiment' on 'quickstart'",
        ),
        (
            "batch_tokens: 512,",
            "batch_tokens: 512, micro_batch_tokens: 100,",
            "pretrain:",
            "pipelines.quickstart.pretrain.micro_batch_tokens: 100 is no multiple of model.context "
            "64; 128 would be",
        ),
        (
            "method: prompt, shots: 0",
            "method: prompt, shots: 4, examples: 3",
            "zero_shot:",
            "adapters.zero_shot.shots: 4 worked examples of 3 training rows of task 'sentiment' "
            "are more than there are; lower it, or raise examples or max_train",
        ),
        (
            "rank: 2,",
            "rank: 2, targets: [q_proj, v_porj],",
            "rank: 2",
            "adapters.lora.targets: a layer has no matrix 'v_porj'; did you mean 'v_proj'? known: "
            "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj",
        ),
    ],
)
def test_mistakes_between_blocks_are_named(old, new, line, said):
    assert old in TEXT
    text = TEXT.replace(old, new)
    number = next(n for n, found in enumerate(text.splitlines(), 1) if line in found)
    with pytest.raises(CatalogueError) as refused:
        parse(text)
    assert f"pipelines.yaml:{number}: " in str(refused.value)
    assert said in str(refused.value)


def test_vectors_of_words_need_a_vocabulary_of_words():
    rungs = """
vocabularies:
  pieces: {corpus: tales, kind: bpe, vocab_size: 320}
rungs:
  skip_gram:
    corpus: tales
    vocabulary: pieces
    model: {family: word2vec, architecture: skip_gram}
"""
    with pytest.raises(CatalogueError, match="'pieces' is of kind bpe, and family word2vec learns"):
        parse(TEXT + rungs)
    parse(TEXT + rungs.replace("kind: bpe", "kind: words"))


def test_an_address_is_set_in_quotes(tmp_path: Path):
    """In `{...}` a bare HOST:PORT is refused by one of YAML's parsers, and taken by the other."""
    (tmp_path / "pipelines.yaml").write_text(TEXT)
    assert '"gpu1:29400"' in edit(tmp_path, ["compute.nodes=2", "compute.rendezvous=gpu1:29400"])
    assert load(tmp_path, check_files=False).compute.rendezvous == "gpu1:29400"
    with pytest.raises(CatalogueError, match="not valid YAML"):
        parse(TEXT.replace("jobs: 2,", "jobs: 2, nodes: 2, rendezvous: gpu1:29400,"))


@pytest.mark.parametrize("name", ["datasets", "tasks", "controls"])
def test_a_pipeline_named_like_a_folder_of_artifacts_is_refused(name):
    """Its folders would lie among those of all data sets, tasks or controls."""
    with pytest.raises(CatalogueError, match=f"pipelines.{name}: artifacts/{name} holds all"):
        parse(TEXT.replace("quickstart", name))


def test_a_pipeline_without_adapters_is_refused():
    """Its report would depend on folders that no stage makes."""
    block = TEXT[TEXT.index("  quickstart:") : TEXT.index("tasks:")]
    with pytest.raises(CatalogueError) as refused:
        parse(TEXT.replace(block, block + block.replace("quickstart", "second")))
    assert "pipelines.second: no adapter is made on its base" in str(refused.value)
    remedy = str(refused.value).split("add '")[1].split("'")[0]
    text = TEXT.replace(block, block + block.replace("quickstart", "second"))
    assert parse(text.replace("\nadapters:\n", f"\nadapters:\n  {remedy}\n"))


@pytest.mark.parametrize(
    "deployment",
    [
        "{name: other, entrypoint: 'mine:flow', parameters: {pipeline: elsewhere}}",
        "{name: later, entrypoint: 'flows.pipeline:pipeline'}",
        "{name: filled, entrypoint: 'flows.pipeline:pipeline', "
        "parameters: {pipeline: '{{ prefect.variables.which }}'}}",
    ],
)
def test_deployments_that_are_prefects_business_pass(deployment):
    assert parse(f"{TEXT}  - {deployment}\n")


@pytest.mark.parametrize(
    "workspace", [ROOT, *sorted(ROOT.glob("recipes/*/"))], ids=lambda p: p.name
)
def test_the_catalogues_of_this_repository_are_valid(workspace):
    bases = [pipeline.base for pipeline in load(workspace, check_files=False).pipelines.values()]
    if all(base is None or (workspace / base).exists() for base in bases):
        assert load(workspace)
    else:  # one that another recipe makes
        with pytest.raises(CatalogueError, match=r"make it: cd \.\./books && kindling run books"):
            load(workspace)


def test_workspaces_of_this_repository_share_a_registry_without_meeting():
    """Two had a prompt of the same name: the second was refused."""
    catalogues = [load(w, check_files=False) for w in (ROOT, *ROOT.glob("recipes/*/"))]
    for block in ("prompts", "pipelines"):
        names = [name for catalogue in catalogues for name in getattr(catalogue, block)]
        assert len(names) == len(set(names)), sorted(names)


def test_the_template_is_valid_and_shows_every_key():
    from tests.test_architecture import Catalogue, blocks

    text = (ROOT / "flows" / "template" / "pipelines.yaml").read_text(encoding="utf-8")
    parse(text)
    words = set(text.replace("#", " ").replace(":", " ").replace("{", " ").split())
    for block in blocks(Catalogue, set()):
        assert set(block.model_fields) <= words, block.__name__


def test_a_setting_that_is_no_yaml_is_told_in_a_line(tmp_path: Path):
    (tmp_path / "pipelines.yaml").write_text(TEXT)
    with pytest.raises(CatalogueError, match=r"--set adapters.lora.rank=\[1: '\[1' is not valid"):
        edit(tmp_path, ["adapters.lora.rank=[1"])


def test_a_catalogue_that_is_no_text_is_named(tmp_path: Path):
    (tmp_path / "pipelines.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(CatalogueError, match=r"pipelines.yaml: not UTF-8 text"):
        load(tmp_path)


def test_more_rows_than_a_task_keeps_are_refused_before_any_work():
    """The adapter failed, or each search of a comparison, behind the base."""
    few = TEXT.replace("max_eval: 60}", "max_train: 9, max_eval: 60}")
    said = "are more than the 9 training rows that task 'sentiment' keeps; lower it, or raise max_t"
    with pytest.raises(CatalogueError, match=f"adapters.lora.examples: 10 {said}"):
        parse(few.replace("rank: 2,", "rank: 2, examples: 10,"))
    assert parse(few.replace("rank: 2,", "rank: 2, examples: 9,"))
    compared = "comparisons:\n  c: {pipeline: quickstart, task: sentiment, methods: [lora, prompt],"
    with pytest.raises(CatalogueError) as refused:
        parse(f"{few}{compared} examples: [9, 10, all]}}\n")
    assert str(refused.value).count(f"comparisons.c.examples: 10 {said}") == 1
    assert parse(f"{few}{compared} examples: [9, all]}}\n")


def test_worked_examples_that_leave_no_row_to_train_on_are_refused_before_any_work():
    """One row at least: those before every prompt are not trained on."""
    shown = TEXT.replace("    answer: {positive", "    shots: 4\n    answer: {positive")
    said = "prompts.sentiment.shots: 4 worked examples of 4 training rows .* none to train on; low"
    with pytest.raises(CatalogueError, match=said):
        parse(shown.replace("rank: 2,", "rank: 2, examples: 4,"))
    assert parse(shown.replace("rank: 2,", "rank: 2, examples: 5,"))
    assert parse(TEXT.replace("method: prompt, shots: 0", "method: prompt, shots: 4, examples: 4"))


def test_an_encoder_too_narrow_for_its_tokens_is_refused_before_any_work():
    for method, told in (
        ("p_tuning, encoder_width: 7", 7),
        ("p_tuning, encoder_width: 7, encoder: lstm", 14),
        ("prefix_tuning, projection: true, encoder_width: 9", 9),
        ("p_tuning, encoder: mlp", 32),  # left out it is the base's
    ):
        block = f"\nadapters:\n  soft: {{pipeline: quickstart, task: sentiment, method: {method}, "
        texts = [
            TEXT.replace("\nadapters:\n", f"{block}virtual_tokens: {count}}}\n")
            for count in (told, told + 1)
        ]
        assert parse(texts[0])
        with pytest.raises(CatalogueError, match=rf"soft.encoder_width: .* apart, only {told}; "):
            parse(texts[1])


def test_what_leaves_no_room_for_text_is_refused_before_any_work():
    with pytest.raises(CatalogueError, match="virtual_tokens: 64 leave no room for text in the"):
        parse(TEXT.replace("virtual_tokens: 4", "virtual_tokens: 64"))


def test_a_kind_that_the_world_lacks_is_refused_before_any_work():
    world = "  world: {path: w.py, format: world, size: 9, kinds: [reviews]}\n"
    with pytest.raises(CatalogueError, match="no kind 'reviews'; did you mean 'review'"):
        parse(TEXT.replace("prompts:\n", f"{world}prompts:\n", 1))


def test_preferences_need_two_answers_before_any_work():
    prompts = '  write: {template: "{{source}} =", answer: " {{target}}"}\n'
    pairs = "  pairs: {path: pairs, format: tsv, source: a, target: b}\n"
    more = "  write: {dataset: pairs, kind: generation, prompt: write, max_new_tokens: 8}\n"
    preferred = "  preferred: {pipeline: quickstart, task: write, method: dpo}\n"
    text = TEXT
    for block, added in (
        ("datasets", pairs),
        ("prompts", prompts),
        ("tasks", more),
        ("adapters", preferred),
    ):
        text = text.replace(f"{block}:\n", f"{block}:\n{added}", 1)
    said = r"adapters.preferred.method: dpo needs .* 'pairs' of task 'write' has none; .* COLUMN'"
    with pytest.raises(CatalogueError, match=said):
        parse(text)
    text = text.replace("target: b}", "target: b, rejected: c}")
    assert parse(text).datasets["pairs"].wanted("train") == ("a", "b", "c")
    with pytest.raises(CatalogueError, match=r"prompts.write.answer: .* prefer it to itself"):
        parse(text.replace('answer: " {{target}}"', 'answer: " {{source}}"'))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("source: a, target: b, rejected: b", "'b' is the pair's source or target already"),
        ("source: a, target: b, rejected: c, steps: b", "which holds worked steps too; give these"),
        ("text: a, rejected: c", "rejected belongs to pairs"),
        ("source: a, target: b, extra: [rejected]", "'rejected' is the name of a pair's own part"),
    ],
)
def test_rejected_answers_are_of_pairs(keys, said):
    pairs = f"  pairs: {{path: pairs, format: tsv, {keys}}}\n"
    with pytest.raises(CatalogueError, match=said):
        parse(TEXT.replace("datasets:\n", f"datasets:\n{pairs}", 1))
