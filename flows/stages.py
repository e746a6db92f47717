"""The stages that exist: what each reads, makes and calls. One explicit table, no conditions."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from components import cluster
from components.compute import Compute
from components.training.group import Group
from flows import climbing, settings
from flows.work import Stage, Work


def _dataset(work: Work) -> dict[str, float]:
    from components.ingest import ingest

    block = work.catalogue.datasets[work.name]
    return ingest(block, work.workspace / block.path, work.out, work.report)


def _task(work: Work) -> dict[str, float]:
    from components.tasks import build_task

    task = work.catalogue.tasks[work.name]
    prompt = work.catalogue.prompts[task.prompt]
    dataset = work.artifact(f"datasets/{task.dataset}")
    return build_task(task, work.name, prompt, task.prompt, dataset, work.out, work.report)


def _controls(work: Work) -> dict[str, float]:
    from components.evaluation.controls import evaluate_controls

    return evaluate_controls(work.artifact(f"tasks/{work.name}"), work.out, work.report)


def _corpus(work: Work) -> dict[str, float]:
    from components.corpus import build_corpus

    dataset = work.artifact(f"datasets/{work.catalogue.pipelines[work.name].corpus}")
    return build_corpus(dataset, work.out, work.report)


def _tokenizer(work: Work) -> dict[str, float]:
    from components.tokenizer import train_tokenizer

    block = work.catalogue.pipelines[work.name].tokenizer
    return train_tokenizer(block, work.artifact(f"{work.name}/corpus"), work.out, work.report)


def _tokens(work: Work) -> dict[str, float]:
    from components.tokens import encode_corpus

    corpus, tokenizer = (work.artifact(f"{work.name}/{part}") for part in ("corpus", "tokenizer"))
    return encode_corpus(corpus, tokenizer, work.out, work.report, _spread(work.catalogue.compute))


def _spread(compute: Compute) -> Callable | None:
    """What spreads work over the cluster that there is; None without one."""
    address = settings.ray_address()
    if compute.engine != "ray" or address is None:
        return None
    return partial(cluster.spread, address, compute.threads)


def _base(work: Work) -> dict[str, float]:
    block, compute = work.catalogue.pipelines[work.name], work.catalogue.compute
    tokens, tokenizer = (work.artifact(f"{work.name}/{part}") for part in ("tokens", "tokenizer"))
    places = {"tokens": tokens, "tokenizer": tokenizer, "out": work.out}
    places["checkpoints"] = work.checkpoints
    price = compute.price_per_hour
    given = {"identity": work.identity, "price": price and price * compute.nodes}
    if compute.engine == "local" and compute.nodes * compute.processes == 1:
        from components.training.pretrain import pretrain

        return pretrain(block.model, block.pretrain, report=work.report, **places, **given)
    from components.training import launch

    job = {
        "model": block.model.model_dump(mode="json"),
        "pretrain": block.pretrain.model_dump(mode="json"),
        **{name: str(path) for name, path in places.items()},
        **given,
    }
    return launch.run(job, _group(compute), work.report)


def _group(compute: Compute) -> Group:
    meeting = settings.ray_address() if compute.engine == "ray" else compute.rendezvous
    given = ("processes", "threads", "strategy", "nodes", "engine")
    return Group(**{name: getattr(compute, name) for name in given}, meeting=meeting)


def _language_model(work: Work) -> dict[str, float]:
    from components.evaluation.language_model import evaluate_language_model

    base, corpus = (work.artifact(f"{work.name}/{part}") for part in ("base", "corpus"))
    return evaluate_language_model(base, corpus, work.out, work.report)


def _adapt(work: Work, out: Path, random_base: bool) -> dict[str, float]:
    from components.adapters.training import train_adapter

    block = work.catalogue.adapters[work.name]
    return train_adapter(
        block,
        work.name,
        work.artifact(f"tasks/{block.task}"),
        work.of_pipeline("base"),
        out,
        checkpoints=work.checkpoints,
        identity=work.identity,
        report=work.report,
        random_base=random_base,
    )


def _adapter(work: Work) -> dict[str, float]:
    return _adapt(work, work.out, random_base=False)


def _evaluation(work: Work) -> dict[str, float]:
    from components.evaluation import evaluate_adapter

    block = work.catalogue.adapters[work.name]
    adapter = work.of_pipeline(f"adapters/{work.name}")
    task = work.artifact(f"tasks/{block.task}")
    return evaluate_adapter(adapter, task, work.of_pipeline("base"), work.out, work.report)


def _random(work: Work) -> dict[str, float]:
    """The control: the same adaptation of a randomly initialised base, trained and judged."""
    from components.evaluation import evaluate_adapter

    block = work.catalogue.adapters[work.name]
    trained = work.out.with_name(f"{work.out.name}.adapter")
    shutil.rmtree(trained, ignore_errors=True)
    trained.mkdir()
    _adapt(work, trained, random_base=True)
    task = work.artifact(f"tasks/{block.task}")
    base = work.of_pipeline("base")
    figures = evaluate_adapter(trained, task, base, work.out, work.report)
    shutil.rmtree(trained)
    return figures


def _contamination(work: Work) -> dict[str, float]:
    from components.evaluation.contamination import contamination

    # every task there is, as DVC sees them: an adapter may move to another one
    folders = sorted(path.parent for path in work.artifact("tasks").glob("*/task.json"))
    tasks = {folder.name: folder for folder in folders}
    return contamination(work.artifact(f"{work.name}/corpus"), tasks, work.out, work.report)


def _report(work: Work) -> dict[str, float]:
    from components.report.page import build_report

    names = work.catalogue.adapters_of(work.name)
    return build_report(work.name, work.artifact(""), names, work.out, work.report)


def _brought(work: Work) -> dict[str, float]:
    from components.models.brought import bring

    return bring(work.workspace / work.catalogue.pipelines[work.name].base, work.out, work.report)


def _search(work: Work) -> dict[str, float]:
    from components.comparison.ground import Ground
    from components.comparison.search import search

    entry = work.catalogue.entry(work.name)
    base, task = (work.artifact(f"{entry.pipeline}/base"), work.artifact(f"tasks/{entry.task}"))
    ground = Ground(task, base, work.workspace / ".kindling" / "trials", work.origin)
    comparison = work.catalogue.comparisons[entry.comparison]
    return search(entry, comparison, ground, work.out, work.report)


def _final(work: Work) -> dict[str, float]:
    from components.comparison.final import train_final

    entry, seed = work.catalogue.final(work.name)
    return train_final(
        entry,
        seed,
        work.artifact(f"comparisons/{entry.comparison}/searches/{entry.key}"),
        work.artifact(f"tasks/{entry.task}"),
        work.artifact(f"{entry.pipeline}/base"),
        work.out,
        checkpoints=work.checkpoints,
        identity=work.identity,
        report=work.report,
    )


def _comparison(work: Work) -> dict[str, float]:
    from components.comparison.result import collect

    block = work.catalogue.comparisons[work.name]
    price = work.catalogue.compute.price_per_hour
    return collect(work.name, block, work.artifact(""), price, work.out, work.report)


_TORCH = ("torch", "transformers", "tokenizers")
_PEFT = (*_TORCH, "peft")
_JUDGED = (*_PEFT, "sacrebleu")
_SCORES = ("scikit-learn", "sacrebleu")
_OF_ADAPTER = ("{pipeline}/base", "tasks/{task}")
_OF_REPORT = ("{name}/base", "{name}/evaluations/{each_adapter}", "{name}/controls/{each_adapter}")
STAGES: dict[str, Stage] = {
    "dataset": Stage(_dataset, "datasets/{name}", libraries=("datasets",)),
    "task": Stage(_task, "tasks/{name}", ("datasets/{dataset}",)),
    "controls": Stage(_controls, "controls/{name}", ("tasks/{name}",), _SCORES),
    "corpus": Stage(_corpus, "{name}/corpus", ("datasets/{corpus}",)),
    "tokenizer": Stage(_tokenizer, "{name}/tokenizer", ("{name}/corpus",), ("tokenizers",)),
    "tokens": Stage(
        _tokens, "{name}/tokens", ("{name}/corpus", "{name}/tokenizer"), ("tokenizers",)
    ),
    "base": Stage(_base, "{name}/base", ("{name}/tokens", "{name}/tokenizer"), _TORCH, trains=True),
    "language_model": Stage(
        _language_model, "{name}/evaluations/base", ("{name}/base", "{name}/corpus"), _TORCH
    ),
    "adapter": Stage(_adapter, "{pipeline}/adapters/{name}", _OF_ADAPTER, _PEFT, trains=True),
    "evaluation": Stage(
        _evaluation,
        "{pipeline}/evaluations/{name}",
        ("{pipeline}/adapters/{name}", *_OF_ADAPTER),
        _JUDGED,
    ),
    "random": Stage(
        _random,
        "{pipeline}/controls/{name}",
        ("{pipeline}/adapters/{name}", "{pipeline}/evaluations/{name}", *_OF_ADAPTER),
        _JUDGED,
        trains=True,
    ),
    "report": Stage(_report, "{name}/report", _OF_REPORT, ("sacrebleu",), gathers=True),
    "brought": Stage(_brought, "{name}/base", libraries=_TORCH),
    "brought_report": Stage(_report, "{name}/report", _OF_REPORT, ("sacrebleu",), gathers=True),
    "search": Stage(
        _search, "comparisons/{comparison}/searches/{name}", _OF_ADAPTER, _JUDGED, trains=True
    ),
    "final": Stage(
        _final,
        "comparisons/{comparison}/finals/{name}",
        ("comparisons/{comparison}/searches/{search}", *_OF_ADAPTER),
        _JUDGED,
        trains=True,
    ),
    "comparison": Stage(
        _comparison,
        "comparisons/{name}/result",
        ("comparisons/{name}/finals/{each_final}", "controls/{task}", "tasks/{task}"),
        _JUDGED,
        gathers=True,
    ),
    "contamination": Stage(
        _contamination, "{name}/contamination", ("{name}/corpus", "tasks/{each_task}")
    ),
    **climbing.STAGES,
}
