"""The rung that reads both ways: BERT, pretrained on hidden words and fitted to labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.evaluation.metrics import score_of
from components.ladder import pronouns, senses
from components.ladder.block import Rung
from components.ladder.ground import Ground
from components.ladder.plan import plan_of
from components.lineage import read_json, read_jsonl, write_json, write_jsonl
from components.models import bert
from components.splits import SPLITS
from components.tokenizer import END, PAD, open_engine
from components.tokens import encode_corpus, open_tokens
from components.training.checkpoint import Checkpoints
from components.training.loop import train as run

if TYPE_CHECKING:
    import tokenizers
    from transformers import BertForMaskedLM, BertForSequenceClassification

    from components.training.classes import Labelled

WINDOWS = 400  # of the test split, in which hidden tokens are told
TEXTS = 2000  # of a labelled split, judged
BATCH = 32
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
    labels = _labels(ground)
    tokens = ground.checkpoints.parent / f"{ground.checkpoints.name}.tokens"
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


def _labels(ground: Ground) -> list[str]:
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
    texts = {
        split: _encoded(ground, labels, split, block.context) for split in ("train", "validation")
    }
    rows = min(block.classifier.batch_size, len(texts["train"]))
    objective = Classes(model, texts["train"], texts["validation"][:TEXTS], rows, ground.seed)
    plan = plan_of(block.classifier, rows, ground.seed)
    identity = f"{ground.identity} {out.name}"
    silent = _Later(ground.report, out.name)
    history = run(objective, plan, Checkpoints(ground.checkpoints / out.name, identity), silent)
    out.mkdir()
    model.cpu().eval().save_pretrained(out)
    write_json(out / "training.json", {"history": history})


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


def _encoded(ground: Ground, labels: list[str], split: str, context: int) -> "list[Labelled]":
    """The labelled texts of a split, each cut to `context` tokens."""
    from components.training.classes import Labelled

    engine = open_engine(ground.vocabulary)
    opening, number = engine.token_to_id(END), {label: n for n, label in enumerate(labels)}
    rows = list(read_jsonl(ground.also / f"{split}.jsonl"))
    encodings = engine.encode_batch_fast([row["text"] for row in rows])
    return [
        Labelled([opening, *encoding.ids][:context], number[row["label"]])
        for row, encoding in zip(rows, encodings, strict=True)
    ]


def measure(rung: Rung, ground: Ground, trained: Path, out: Path) -> dict[str, float]:
    """Hidden tokens told, two meanings told apart, pronouns understood, labels given."""
    model = bert.load(trained)
    engine = open_engine(ground.vocabulary)
    told = _told(model, engine, ground)
    test = ground.corpus / "test.jsonl"
    sentences = senses.sentences(test)
    vectors = word_vectors(model, engine, [row["text"] for row in sentences])
    meanings = senses.told_apart(vectors, [row["sense"] for row in sentences])
    write_json(out / "senses.json", {**meanings, "texts": [row["text"] for row in sentences]})
    answered = _answered(model, engine, pronouns.questions(test))
    write_jsonl(out / "pronouns.jsonl", answered)
    pronoun, interval = score_of(answered, "accuracy")
    figures: dict[str, Any] = {
        "masked_accuracy": {"score": told[0], "interval": told[1]},
        "senses": {"score": meanings["score"], "interval": meanings["interval"]},
        "pronouns": {"score": pronoun, "interval": interval, "n": len(answered)},
    }
    if (trained / PRETRAINED).is_dir():
        labels = _labels(ground)
        for name, place in (("accuracy", PRETRAINED), ("accuracy_untaught", UNTAUGHT)):
            records = _classified(bert.load_classifier(trained / place), ground, labels)
            write_jsonl(out / f"{place}.jsonl", records)
            value, interval = score_of(records, "accuracy")
            figures[name] = {"score": value, "interval": interval, "n": len(records)}
    about = read_json(trained / "training.json")
    write_json(out / "metrics.json", {**figures, "parameters": about["parameters"]})
    return {name: figure["score"] for name, figure in figures.items()}


def _told(
    model: "BertForMaskedLM", engine: "tokenizers.Tokenizer", ground: Ground
) -> tuple[float, list[float]]:
    """How many of the hidden tokens of test windows are told, and the interval over windows."""
    import torch

    from components.training.masked import chosen_logits, hide

    context, opening = model.config.max_position_embeddings, engine.token_to_id(END)
    texts = (row["text"] for row in read_jsonl(ground.corpus / f"{SPLITS[-1]}.jsonl"))
    ids = [token for text in texts for token in (opening, *engine.encode(text).ids)]
    starts = np.unique(np.linspace(0, max(0, len(ids) - context), WINDOWS).astype(int))
    generator = torch.Generator().manual_seed(0)
    shares: list[dict[str, float]] = []
    with torch.no_grad():
        for first in range(0, len(starts), BATCH):
            rows = [ids[start : start + context] for start in starts[first : first + BATCH]]
            cut = torch.tensor(rows)
            cut[:, 0] = opening
            hidden, places, targets = hide(cut, bert.mask_of(model), generator)
            right = chosen_logits(model, hidden, places).argmax(-1) == targets
            share = right.float().view(len(rows), -1).mean(1)
            shares += [{"correct": value} for value in share.tolist()]
    return score_of(shares, "accuracy")


def word_vectors(
    model: "BertForMaskedLM", engine: "tokenizers.Tokenizer", texts: Sequence[str]
) -> np.ndarray:
    """The state of the word of `senses` in each text, the mean over its tokens. (texts, width)."""
    import torch

    opening, found = engine.token_to_id(END), []
    with torch.no_grad():
        for text in texts:
            encoding = engine.encode(text)
            ids = _fitting(model, [opening, *encoding.ids], text)
            states = model.bert(input_ids=torch.tensor([ids]))
            begin = senses.place_of(text)
            end = begin + len(senses.WORD)
            own = [n for n, (a, b) in enumerate(encoding.offsets, 1) if a < end and b > begin]
            found.append(states.last_hidden_state[0, own].mean(0))
    return torch.stack(found).numpy()


def _fitting(model: "BertForMaskedLM", ids: list[int], text: str) -> list[int]:
    """`ids`, which the model has positions for.

    Raises:
        ValueError: it has not; a cut sentence would be another question.
    """
    if len(ids) > model.config.max_position_embeddings:
        raise ValueError(
            f"{text!r} has {len(ids)} tokens, and the model positions for "
            f"{model.config.max_position_embeddings}; raise model.context"
        )
    return ids


def _answered(
    model: "BertForMaskedLM",
    engine: "tokenizers.Tokenizer",
    questions: Sequence[pronouns.Question],
) -> list[dict[str, Any]]:
    """For each question the log-probability of its candidates behind masks, in nats a token."""
    records = []
    for question in questions:
        likely = [_likelihood(model, engine, question.text, word) for word in question.candidates]
        records.append(
            {
                "text": question.text,
                "candidates": list(question.candidates),
                "nats": [round(value, 4) for value in likely],
                "correct": float(likely[0] > likely[1]),
            }
        )
    return records


def _likelihood(
    model: "BertForMaskedLM", engine: "tokenizers.Tokenizer", text: str, word: str
) -> float:
    """The mean log-probability of `word`'s tokens, all hidden, where the gap of `text` is."""
    import torch

    filled = text.replace(pronouns.GAP, word)
    encoding = engine.encode(filled)
    begin = text.index(pronouns.GAP)
    end = begin + len(word)
    own = [n for n, (a, b) in enumerate(encoding.offsets, 1) if a < end and b > begin]
    ids = torch.tensor([_fitting(model, [engine.token_to_id(END), *encoding.ids], filled)])
    targets = ids[0, own]
    ids[0, own] = bert.mask_of(model)
    with torch.no_grad():
        logprobs = model(input_ids=ids).logits[0, own].log_softmax(-1)
    return float(logprobs.gather(1, targets[:, None]).mean())


def _classified(
    model: "BertForSequenceClassification", ground: Ground, labels: list[str]
) -> "list[dict[str, Any]]":
    import torch

    from components.training.classes import padded

    texts = _encoded(ground, labels, "test", model.config.max_position_embeddings)[:TEXTS]
    records: list[dict[str, Any]] = []
    with torch.no_grad():
        for first in range(0, len(texts), BATCH):
            ids, mask, truth = padded(texts[first : first + BATCH], model.config.pad_token_id)
            given = model(input_ids=ids, attention_mask=mask).logits.argmax(-1)
            for right, told in zip(truth.tolist(), given.tolist(), strict=True):
                pair = {"label": labels[right], "prediction": labels[told]}
                records.append({**pair, "correct": float(right == told)})
    return records
