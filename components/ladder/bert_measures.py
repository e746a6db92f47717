"""What BERT has learned: hidden words, meanings, pronouns, labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.evaluation.metrics import bootstrap_interval, score_of
from components.ladder import pronouns, senses
from components.ladder.bert import PRETRAINED, UNTAUGHT, encoded, labels_of
from components.ladder.block import Rung
from components.ladder.ground import Ground
from components.ladder.word_rows import write_neighbours
from components.lineage import read_json, read_jsonl, write_json, write_jsonl
from components.models import bert
from components.tokenizer import END, open_engine

if TYPE_CHECKING:
    import tokenizers
    from transformers import BertForMaskedLM, BertForSequenceClassification


WINDOWS = 400  # of the test split, in which hidden tokens are told
TEXTS = 2000  # of a labelled split, judged
BATCH = 32


def measure(rung: Rung, ground: Ground, trained: Path, out: Path) -> dict[str, float]:
    """Hidden tokens told, two meanings told apart, pronouns understood, labels given; and which
    words are near each other.
    """
    model = bert.load(trained)
    engine = open_engine(ground.vocabulary)
    told = _told(model, engine, ground)
    test = ground.corpus / "test.jsonl"
    sentences = senses.sentences(test)
    vectors = word_vectors(model, engine, [row["text"] for row in sentences])
    meanings = senses.judge(vectors, sentences)
    write_json(out / "senses.json", meanings)
    texts = (row["text"] for row in read_jsonl(test))
    write_neighbours(engine, model.get_input_embeddings().weight, texts, out)
    answered = _answered(model, engine, pronouns.questions(test))
    write_jsonl(out / "pronouns.jsonl", answered)
    figures: dict[str, Any] = {
        "masked_accuracy": told,
        **senses.figures(meanings),
        "pronouns": pronouns.share_right(answered),
    }
    if (trained / PRETRAINED).is_dir():
        labels = labels_of(ground)
        for name, place in (("accuracy", PRETRAINED), ("accuracy_untaught", UNTAUGHT)):
            records, cut = _classified(bert.load_classifier(trained / place), ground, labels)
            write_jsonl(out / f"{place}.jsonl", records)
            value, interval = score_of(records, "accuracy")
            figures[name] = {"score": value, "interval": interval, "n": len(records), "cut": cut}
    about = read_json(trained / "training.json")
    write_json(out / "metrics.json", {**figures, "parameters": about["parameters"]})
    return {name: figure["score"] for name, figure in figures.items()}


def _told(
    model: "BertForMaskedLM", engine: "tokenizers.Tokenizer", ground: Ground
) -> dict[str, Any]:
    """The share of the tokens behind a mask that are told, in windows of the test text.

    The tokens that `hide` leaves as they are or exchanges are not counted: to repeat what one sees
    is easy, and training has them only so that the model looks at words without a mask too. The
    interval is over windows, `n` counts masks.
    """
    import torch

    from components.training.masked import chosen_logits, hide
    from components.training.windows import spaced

    context, opening = model.config.max_position_embeddings, engine.token_to_id(END)
    texts = (row["text"] for row in read_jsonl(ground.corpus / "test.jsonl"))
    ids = [token for text in texts for token in (opening, *engine.encode(text).ids)]
    windows = spaced(np.array(ids), context, WINDOWS)
    generator = torch.Generator().manual_seed(0)
    counts: list[torch.Tensor] = []  # of each window: masks told, masks
    with torch.no_grad():
        for first in range(0, len(windows), BATCH):
            cut = torch.from_numpy(windows[first : first + BATCH])
            cut[:, 0] = opening
            hidden, places, targets = hide(cut, bert.mask_of(model), generator)
            masked = hidden.flatten()[places] == bert.mask_of(model)  # (chosen,)
            right = (chosen_logits(model, hidden, places).argmax(-1) == targets) & masked
            by_window = torch.stack([right, masked], -1).view(len(cut), -1, 2)
            counts.append(by_window.sum(1))
    sums = torch.cat(counts).double().numpy()  # (windows, 2)
    told, masks = sums.sum(axis=0)
    interval = bootstrap_interval(sums, score=lambda total: total[..., 0] / total[..., 1])
    return {"score": float(told / masks), "interval": [*interval], "n": int(masks)}


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
            own = _places(encoding, senses.place_of(text), len(senses.WORD))
            found.append(states.last_hidden_state[0, own].mean(0))
    return torch.stack(found).numpy()


def _places(encoding: "tokenizers.Encoding", begin: int, length: int) -> list[int]:
    """Which tokens, behind the opening one, hold the characters from `begin` on."""
    end = begin + length
    return [n for n, (a, b) in enumerate(encoding.offsets, 1) if a < end and b > begin]


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
    own = _places(encoding, text.index(pronouns.GAP), len(word))
    ids = torch.tensor([_fitting(model, [engine.token_to_id(END), *encoding.ids], filled)])
    targets = ids[0, own]
    ids[0, own] = bert.mask_of(model)
    with torch.no_grad():
        logprobs = model(input_ids=ids).logits[0, own].log_softmax(-1)
    return float(logprobs.gather(1, targets[:, None]).mean())


def _classified(
    model: "BertForSequenceClassification", ground: Ground, labels: list[str]
) -> tuple[list[dict[str, Any]], int]:
    """The label given to each of the first test texts, and how many of all these were cut."""
    import torch

    from components.training.classes import tensors

    whole, cut = encoded(ground, labels, "test", model.config.max_position_embeddings)
    texts = whole[:TEXTS]
    records: list[dict[str, Any]] = []
    with torch.no_grad():
        for first in range(0, len(texts), BATCH):
            ids, mask, truth = tensors(texts[first : first + BATCH], model.config.pad_token_id)
            given = model(input_ids=ids, attention_mask=mask).logits.argmax(-1)
            for right, told in zip(truth.tolist(), given.tolist(), strict=True):
                pair = {"label": labels[right], "prediction": labels[told]}
                records.append({**pair, "correct": float(right == told)})
    return records, cut
