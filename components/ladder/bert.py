"""The rung that reads both ways: BERT, pretrained on hidden words and fitted to labels."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.ladder.block import Rung
from components.ladder.ground import Ground
from components.ladder.plan import plan_of
from components.lineage import read_jsonl, write_json
from components.models import bert
from components.tokenizer import END, PAD, open_engine
from components.tokens import encode_corpus, open_tokens
from components.training.checkpoint import Checkpoints
from components.training.loop import train as run

if TYPE_CHECKING:
    from transformers import BertForMaskedLM

    from components.training.classes import Labelled

TEXTS = 2000  # of a labelled split, judged
PRETRAINED, UNTAUGHT = "classifier", "classifier_untaught"


def train(rung: Rung, ground: Ground, out: Path) -> dict[str, float]:
    """Pretrain on the corpus; then fit a classifier to `also`, and another from nothing.

    The second one says what pretraining gave.

    Raises:
        ValueError: the corpus is too short, or `also` has no labels.
    """
    from components.training.masked import Masked
    from components.training.windows import Windows

    block, engine = rung.model, open_engine(ground.vocabulary)
    labels = labels_of(ground)
    tokens = ground.checkpoints / "tokens"  # which go where the checkpoints go
    tokens.mkdir(parents=True, exist_ok=True)
    encode_corpus(ground.corpus, ground.vocabulary, tokens, ground.report)
    model = bert.build(block, engine.get_vocab_size(), engine.token_to_id(PAD), ground.seed)
    objective = Masked(
        model,
        Windows(*open_tokens(tokens, "train"), block.context, ground.seed),
        open_tokens(tokens, "validation")[0],
        rung.training.batch_size,
        engine.token_to_id(END),
    )
    parameters = model.num_parameters()
    ground.report.params({"parameters": parameters})
    plan = plan_of(rung.training, rung.training.batch_size, ground.seed)
    checkpoints = Checkpoints(ground.checkpoints / "pretraining", ground.identity)
    history = run(objective, plan, checkpoints, ground.report)
    model.cpu().eval().save_pretrained(out)
    seen = rung.training.steps * rung.training.batch_size * block.context
    write_json(
        out / "training.json", {"history": history, "parameters": parameters, "tokens": seen}
    )
    if block.classifier is not None:
        _fit(block, ground, labels, model, out / PRETRAINED)
        untaught = bert.build(
            block, engine.get_vocab_size(), model.config.pad_token_id, ground.seed
        )
        _fit(block, ground, labels, untaught, out / UNTAUGHT)
    last = {key: history[-1][key] for key in ("loss", "validation_loss")}
    return {**last, "parameters": float(parameters)}


def labels_of(ground: Ground) -> list[str]:
    """The labels of `also`, in order; none without it.

    Raises:
        ValueError: its rows have no labels.
    """
    if ground.also is None:
        return []
    first = next(read_jsonl(ground.also / "train.jsonl"))
    if "label" not in first:
        raise ValueError(
            f"{ground.also}: its rows have no label; name a data set with 'label' and 'labels' "
            "under 'also', or drop model.classifier"
        )
    return sorted({row["label"] for row in read_jsonl(ground.also / "train.jsonl")})


def _fit(
    block: bert.Bert, ground: Ground, labels: list[str], encoder: "BertForMaskedLM", out: Path
) -> None:
    """Fit a classifier on `encoder`, which trains with it, and write it into `out`."""
    from components.training.classes import Classes

    model = bert.classifier(encoder, labels, ground.seed)
    texts, cut = encoded(ground, labels, "train", block.context)
    held_out, _ = encoded(ground, labels, "validation", block.context)
    rows = min(block.classifier.batch_size, len(texts))
    objective = Classes(model, texts, held_out[:TEXTS], rows, ground.seed)
    plan = plan_of(block.classifier, rows, ground.seed)
    identity = f"{ground.identity} {out.name}"
    silent = _Later(ground.report, out.name)
    history = run(objective, plan, Checkpoints(ground.checkpoints / out.name, identity), silent)
    out.mkdir()
    model.cpu().eval().save_pretrained(out)
    write_json(out / "training.json", {"history": history, "texts": len(texts), "cut": cut})


class _Later:
    """Reports a second training under names of its own, for steps would run backwards."""

    def __init__(self, report: Any, name: str) -> None:
        self.report, self.name = report, name

    def params(self, values: dict[str, object]) -> None:
        self.report.params({f"{self.name}.{key}": value for key, value in values.items()})

    def metrics(self, values: dict[str, float], step: int = 0) -> None:
        self.report.metrics({f"{self.name}.{key}": v for key, v in values.items()}, step)

    def progress(self, done: float, total: float, note: str = "") -> None:
        self.report.progress(done, total, f"{self.name}: {note}")

    def text(self, name: str, text: str) -> None:
        self.report.text(f"{self.name}.{name}", text)


def encoded(
    ground: Ground, labels: list[str], split: str, context: int
) -> "tuple[list[Labelled], int]":
    """The labelled texts of a split, each cut to `context` tokens, and how many were longer."""
    from components.training.classes import Labelled

    engine = open_engine(ground.vocabulary)
    opening, number = engine.token_to_id(END), {label: n for n, label in enumerate(labels)}
    rows = list(read_jsonl(ground.also / f"{split}.jsonl"))
    encodings = engine.encode_batch_fast([row["text"] for row in rows])
    texts = [
        Labelled([opening, *encoding.ids][:context], number[row["label"]])
        for row, encoding in zip(rows, encodings, strict=True)
    ]
    return texts, sum(len(encoding.ids) >= context for encoding in encodings)
