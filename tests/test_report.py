"""Pictures and page, drawn from made-up folders as the stages leave them."""

import base64
import math
import re
import shutil

import pytest

from components.evaluation.calibration import calibration
from components.evaluation.metrics import summarise
from components.evaluation.sensitivity import spread
from components.lineage import folder_hash, read_json, write_json, write_jsonl
from components.report import canvas, plots
from components.report.page import build_report
from components.reporter import Silent

LABELS = {"negative": " bad", "positive": " good"}
PROMPT = {
    "name": "sentiment",
    "template": "{{text}} This <film> & cast is",
    "answer": LABELS,
    "shots": 0,
    "shot_texts": [],
    "sha": "5" * 64,
}
ADAPTERS = {  # score: on the base, on an untrained base
    "zero_shot": ("prompt", 0, [], (0.55, 0.5)),
    "few_shot": ("prompt", 0, ["Dull. This is bad"], (0.6, 0.5)),
    "lora": ("lora", 98_304, [], (0.9, 0.6)),
}


WORST = [
    {
        "prompt": "Hardly <i>dull</i>. This film is",
        "expected": " good",
        "generated": [],
        "label": "positive",
        "prediction": "negative",
        "correct": False,
    }
]


def write_stage(folder, inputs, **files):
    """A folder with `files` (name without suffix: JSON value) and a lineage."""
    folder.mkdir(parents=True)
    for name, value in files.items():
        write_json(folder / f"{name}.json", value)
    origin = {"stage": "some@stage", "block": {}, "versions": {"torch": "2.13.0"}}
    hashes = dict.fromkeys(inputs, "d" * 64)
    content = folder_hash(folder)
    write_json(folder / "lineage.json", {"content": content, "inputs": hashes, **origin})


def write_evaluation(folder, score, prompt, **more):
    records = []
    for number in range(100):
        label, other = sorted(LABELS)[:: 1 if number % 2 else -1]
        right = number < score * 100
        record = {"id": f"{number:03}", "label": label, "correct": right}
        prediction = label if right else other
        scores = dict.fromkeys(LABELS, -2.0) | {prediction: -0.5 - number / 100}
        records.append({**record, "prediction": prediction, "scores": scores})
    figures = summarise(records, "test", LABELS, "accuracy", prompt, "tokenizer", {})
    figures |= {"truncated": 0, "unfinished": 0, "by_steps": {}} | more
    figures["calibration"] = calibration(records)
    templates = [{"template": f"{{{{text}}}} I <{n}>", "score": 0.5 + n / 10} for n in range(3)]
    orders = [{"order": [n, 1 - n], "score": 0.6} for n in range(2)]
    spreads = {"paraphrases": spread(templates), "orders": spread(orders)}
    write_stage(folder, [], metrics=figures, worst=WORST, sensitivity=spreads)
    write_jsonl(folder / "records.jsonl", records)


def data_report(groups):
    quantiles = {"0": 8, "5": 20, "50": 60, "95": 200, "100": 900}
    counts = {"rows": 1000, "words": 9000, "characters": 50_000, "length_quantiles": quantiles}
    split = {**counts, "groups": dict.fromkeys(groups, 1000 // len(groups))}
    return {"splits": dict.fromkeys(("train", "validation", "test"), split)}


def training(tokens):
    history = []
    for step in range(1, 61):
        point = {"step": step, "tokens": step * tokens, "loss": 1 + 6 * math.exp(-step / 12)}
        held_out = {"validation_loss": point["loss"] + 0.1} if step % 20 == 0 else {}
        history.append({**point, "learning_rate": 0.001, **held_out})
    return {"history": history, "parameters": 1_300_000, "tokens": 60 * tokens}


def language_model(kinds):
    """Without kinds: of a text whose own entropy nobody knows."""
    figures = {"bits_per_byte": 0.62, "nats_per_token": 1.9, "perplexity_per_word": 9.3}
    known = {"nats": 1100.0, "exact_nats": 1000.0, "ratio": 1.1}
    by_kind = dict.fromkeys(kinds, figures | known)
    return {**figures, **(known | {"by_kind": by_kind} if kinds else {}), "documents": 50}


def write_artifacts(artifacts, kinds=("bank", "review")):
    """Everything that the report of the pipeline `demo` reads."""
    demo = artifacts / "demo"
    statistics = {
        "vocab_size": 2048,
        "bytes_per_token": {"train": 4.8, "validation": 4.7, "test": 4.75},
        "vocabulary_used": 0.97,
        "round_trip_failures": 0,
        "token_length": {"1": 256, "2": 700, "10": 12},
    }
    samples = [{"prompt": "The <b>king", "text": " & the queen.\n<script>alert(1)</script>"}]
    splits = {"train": {"tokens": 245_760, "documents": 1000, "bytes": 10**6}}
    write_stage(demo / "corpus", ["datasets/world"], report=data_report(kinds or ["text"]))
    write_stage(demo / "tokenizer", ["demo/corpus"], statistics=statistics)
    write_stage(demo / "tokens", ["demo/corpus", "demo/tokenizer"], tokens={"splits": splits})
    write_stage(demo / "base", ["demo/tokens"], training=training(4096), samples=samples)
    write_stage(demo / "evaluations" / "base", ["demo/base"], metrics=language_model(kinds))
    share = {"rows": 100, "dirty": 40, "share": 0.4}
    alike = {"words": 8, "test": share, "validation": share}
    overlap = {"sentiment": alike, "worked": alike}
    write_stage(demo / "contamination", ["demo/corpus"], metrics=overlap)
    dirty = [{"task": "sentiment", "split": "test", "id": f"{n:03}"} for n in range(40)]
    write_jsonl(demo / "contamination/records.jsonl", [{**d, "run": "a <run>"} for d in dirty])
    control = {"score": 0.5, "interval": [0.4, 0.6], "n": 100}
    both = {"majority": control | {"title": "majority label"}}
    both["tfidf"] = control | {"score": 0.8, "title": "TF-IDF"}
    write_stage(artifacts / "controls" / "sentiment", ["tasks/sentiment"], metrics=both)
    for name, (method, trained, shots, scores) in ADAPTERS.items():
        prompt = PROMPT | {"shots": len(shots), "shot_texts": shots}
        adapter = {"name": name, "method": method, "task": "sentiment", "prompt": prompt}
        adapter |= {"labels": LABELS, "trainable_parameters": trained, "truncated": 0}
        files = {"adapter": adapter} | ({"training": training(0)} if trained else {})
        write_stage(demo / "adapters" / name, ["demo/base", "tasks/sentiment"], **files)
        write_evaluation(demo / "evaluations" / name, scores[0], prompt)
        write_evaluation(demo / "controls" / name, scores[1], prompt)
    return artifacts


@pytest.fixture
def artifacts(tmp_path):
    return write_artifacts(tmp_path / "artifacts")


def build(artifacts, out):
    out.mkdir()
    figures = build_report("demo", artifacts, list(ADAPTERS), out, Silent())
    assert figures == {"adapters": 3.0}
    return (out / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("kind", "place", "names"),
    [
        ("dataset", "demo/corpus", {"rows", "lengths"}),
        ("corpus", "demo/corpus", {"rows", "lengths"}),
        ("tokenizer", "demo/tokenizer", {"token_length"}),
        ("base", "demo/base", {"loss"}),
        ("adapter", "demo/adapters/lora", {"loss"}),
        ("adapter", "demo/adapters/zero_shot", set()),
        ("evaluation", "demo/evaluations/lora", {"confusion", "reliability"}),
        ("random", "demo/controls/lora", {"confusion", "reliability"}),
        ("language_model", "demo/evaluations/base", {"limit"}),
        ("report", "demo", {"scores", "loss"}),
        ("tokens", "demo/tokens", set()),
    ],
)
def test_every_kind_has_its_pictures(artifacts, tmp_path, kind, place, names):
    figures = plots.of_stage(kind, artifacts / place)
    assert set(figures) == names
    for name, figure in figures.items():
        assert all(axes.get_title(loc="left") for axes in figure.axes)
        assert all(axes.get_xlabel() for axes in figure.axes)
        figure.savefig(tmp_path / f"{name}.png")


@pytest.mark.parametrize("kind", sorted(plots.DRAWN))
def test_an_empty_folder_has_no_pictures(tmp_path, kind):
    assert plots.of_stage(kind, tmp_path) == {}


def test_drawing_leaves_global_settings_alone(artifacts):
    import matplotlib

    before = dict(matplotlib.rcParams)
    plots.of_stage("report", artifacts / "demo")
    assert dict(matplotlib.rcParams) == before


def test_scores_show_the_figures_of_the_folders(artifacts):
    axes = plots.of_stage("report", artifacts / "demo")["scores"].axes[0]
    rows = [label.get_text() for label in axes.get_yticklabels()]
    assert rows == ["few_shot", "zero_shot", "lora"]  # those that train least first
    low, high = read_json(artifacts / "demo/evaluations/lora/metrics.json")["interval"]
    assert f"0.900 [{low:.3f}, {high:.3f}]" in [text.get_text() for text in axes.texts]
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert "TF-IDF 0.800" in legend and "untrained base" in legend


def test_a_text_without_spaces_has_no_perplexity_a_word(artifacts, tmp_path):
    place = artifacts / "demo/evaluations/base/metrics.json"
    figures = read_json(place)
    del figures["perplexity_per_word"]
    write_json(place, figures)
    page = build(artifacts, tmp_path / "out")
    assert "1.900 nats per token.</p>" in page and "a perplexity of" not in page


def test_a_title_of_a_long_name_stays_in_the_picture(artifacts):
    """Small pictures stand side by side, and their figure was cut off at the right."""
    source = artifacts / "demo/evaluations/lora"
    place = source.with_name("soft_prompt_of_examples")
    shutil.copytree(source, place)
    for figure in plots.of_stage("evaluation", place).values():
        figure.canvas.draw()
        assert figure.get_tightbbox().x1 <= figure.get_figwidth()


def test_a_legend_of_long_names_stays_in_the_picture(artifacts):
    """The last of a generation's controls and marks were cut off at the right."""
    path = artifacts / "controls/sentiment/metrics.json"
    titles = ("most frequent answer", "nearest neighbour")
    figures = zip(titles, read_json(path).values(), strict=True)
    write_json(path, {title: control | {"title": title} for title, control in figures})
    rows = plots.read_scores(artifacts / "demo", list(ADAPTERS))
    figure = plots.of_scores(rows)["scores"]
    figure.canvas.draw()
    (legend,) = (axes.get_legend() for axes in figure.axes)
    assert len(legend.get_texts()) == 4
    assert legend.get_window_extent().x1 <= figure.bbox.x1


def test_a_task_of_its_own_has_a_panel_of_its_own(artifacts):
    demo = artifacts / "demo"
    other = read_json(demo / "adapters/lora/adapter.json") | {"task": "irony"}
    write_json(demo / "adapters/lora/adapter.json", other)
    figure = plots.of_stage("report", demo)["scores"]
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["Scores on sentiment", "Scores on irony"]


def test_page_stands_alone(artifacts, tmp_path):
    page = build(artifacts, tmp_path / "out")
    pictures = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    assert len(pictures) == 6 + 2 * len(ADAPTERS)  # and a confusion and a reliability each
    assert all(b"<svg" in base64.b64decode(picture) for picture in pictures)
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "@import" not in page and "url(" not in page


def test_page_tells_the_figures(artifacts, tmp_path):
    page = build(artifacts, tmp_path / "out")
    lineage = read_json(artifacts / "demo/base/lineage.json")
    for part in (
        "<b>lora</b> scores best",
        lineage["content"][:12],
        "d" * 12,  # the data set's
        "1,300,000",
        "over zero_shot",
        "98,304",
        "Dull. This is bad",  # the shots of the only one that has some
        "× 1.100",
        "dvc repro report@demo",
        "torch 2.13.0",
    ):
        assert part in page
    assert page.count("[0.") >= 2 and "undefined" not in page.lower()


def test_page_tells_how_far_to_trust_the_scores(artifacts, tmp_path):
    page = " ".join(build(artifacts, tmp_path / "out").split())
    error = read_json(artifacts / "demo/evaluations/lora/metrics.json")["calibration"]["ece"]
    assert f"{error:.3f}" in page and "over 15 bins" in page
    assert "<b>40</b> (40.0 %) have a run of 8 words in common" in page
    assert "“a &lt;run&gt;”" in page
    # zero_shot: the first 56 of 100 are right, and the first 40 are dirty
    assert '<td class="n">0.560</td> <td class="n"><b>0.267</b></td>' in page
    assert "<code>{{text}} I &lt;2&gt;</code>" in page and "<b>0.200</b>" in page


def test_texts_are_escaped(artifacts, tmp_path):
    page = build(artifacts, tmp_path / "out")
    assert "<script>" not in page and "&lt;script&gt;alert(1)" in page
    assert "The &lt;b&gt;king" in page
    assert "{{text}} This &lt;film&gt; &amp; cast is" in page
    assert "Hardly &lt;i&gt;dull" in page


def write_steps(artifacts):
    """`lora` judged on examples with worked steps, of which some were cut, with free answers."""
    demo = artifacts / "demo"
    group = {"score": 0.5, "interval": [0.4, 0.6], "n": 40}
    by_steps = {"1": group | {"score": 0.9, "interval": [0.8, 1.0]}, "3": group}
    place = demo / "evaluations" / "lora"
    figures = read_json(place / "metrics.json") | {"by_steps": by_steps, "truncated": 7}
    write_json(place / "metrics.json", figures | {"confusion": {"labels": [], "matrix": []}})
    adapter = read_json(demo / "adapters/lora/adapter.json")
    prompt = adapter["prompt"] | {"answer": " {{steps}} #### {{target}}"}
    write_json(
        demo / "adapters/lora/adapter.json",
        adapter | {"labels": {}, "prompt": prompt, "truncated": 1234},
    )
    wrong = WORST[0] | {"generated": ["2 + 2 = 5"], "label": "4", "prediction": "5"}
    write_json(place / "worst.json", [wrong])


def test_worked_steps_have_a_picture_a_table_and_their_errors(artifacts, tmp_path):
    write_steps(artifacts)
    figures = plots.of_stage("evaluation", artifacts / "demo/evaluations/lora")
    assert set(figures) == {"steps"}
    assert figures["steps"].axes[0].get_lines()[0].get_color() == canvas.BLUE
    ticks = [label.get_text() for label in figures["steps"].axes[0].get_xticklabels()]
    assert ticks == ["1\nn = 40", "3\nn = 40"]
    assert "steps_sentiment" in plots.of_stage("report", artifacts / "demo")
    page = build(artifacts, tmp_path / "out")
    for part in (
        "lora: of 100 prompts 7 were too long",
        "1,234 rows cut to the context",
        "0.800 to 1.000",
        "it wrote: 2 + 2 = 5",
        "5 instead of 4",
        "{{steps}} #### {{target}}",
    ):
        assert part in page


def test_a_page_without_a_single_classification(artifacts, tmp_path):
    """Free answers alone have neither a confusion of labels nor a calibration."""
    for name in ADAPTERS:
        path = artifacts / "demo" / "evaluations" / name / "metrics.json"
        figures = read_json(path) | {"confusion": {"labels": [], "matrix": []}}
        del figures["calibration"]
        write_json(path, figures)
    page = build(artifacts, tmp_path / "out")
    assert "What is taken for what" not in page and "How sure they are" not in page


def test_what_is_calibrated_is_an_accuracy_whatever_stands_first(artifacts, tmp_path):
    path = artifacts / "demo/evaluations/zero_shot/metrics.json"
    figures = read_json(path) | {"confusion": {"labels": [], "matrix": []}, "metric": "exact_match"}
    del figures["calibration"]
    write_json(path, figures)
    page = build(artifacts, tmp_path / "out").partition("How sure they are")[2]
    assert '<th class="n">accuracy</th>' in page.partition("</table>")[0]


def test_wordings_of_one_set_of_examples_are_compared_across_tasks(artifacts, tmp_path):
    """A direct answer and worked steps are two tasks; judged on the same rows, they are rivals."""
    path = artifacts / "demo/adapters/lora/adapter.json"
    write_json(path, read_json(path) | {"task": "worked"})
    shutil.copytree(artifacts / "controls/sentiment", artifacts / "controls/worked")
    assert build(artifacts, tmp_path / "one").count("</span> over zero_shot") == 2
    path = artifacts / "demo/evaluations/lora/metrics.json"
    write_json(path, read_json(path) | {"comparison_key": "other"})
    assert build(artifacts, tmp_path / "two").count("</span> over zero_shot") == 1


def test_the_best_is_the_lowest_where_lower_is_better(artifacts, tmp_path):
    for name in ADAPTERS:
        path = artifacts / "demo" / "evaluations" / name / "metrics.json"
        write_json(path, read_json(path) | {"lower_is_better": True})
    assert "<b>zero_shot</b> scores best" in build(artifacts, tmp_path / "out")


def test_the_same_folders_give_the_same_bytes(artifacts, tmp_path):
    again = write_artifacts(tmp_path / "elsewhere" / "artifacts")
    assert build(artifacts, tmp_path / "one") == build(again, tmp_path / "two")


def test_text_of_unknown_entropy_has_no_limit(tmp_path):
    page = build(write_artifacts(tmp_path / "artifacts", kinds=()), tmp_path / "out")
    assert "Distance to the limit" not in page and "0.620" in page


def test_adapters_not_asked_for_stay_out(artifacts, tmp_path):
    """A folder of an adapter that left the catalogue must not come back in the report."""
    build_report("demo", artifacts, ["lora"], tmp_path, Silent())
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "few_shot" not in page and "over zero_shot" not in page


@pytest.mark.parametrize(
    "place",
    [
        "demo/tokens",
        "demo/evaluations/base",
        "demo/controls/lora",
        "demo/contamination",
        "controls/sentiment",
    ],
)
def test_a_missing_folder_is_named(artifacts, tmp_path, place):
    (artifacts / place).rename(tmp_path / "moved")
    with pytest.raises(ValueError, match=rf"{place} has no .*`dvc repro`"):
        build_report("demo", artifacts, list(ADAPTERS), tmp_path, Silent())
