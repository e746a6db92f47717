"""The rungs that say what comes next: n-gram, RNN, LSTM, and the decoder of the pipelines."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.evaluation.document_nats import Reader, reader_of
from components.evaluation.language_model import figures_of, read_documents, sample
from components.evaluation.metrics import score_of
from components.ladder import arithmetic, reach, senses
from components.ladder.block import Rung
from components.ladder.ground import Ground
from components.ladder.plan import plan_of
from components.lineage import read_json, write_json, write_jsonl
from components.models import llama
from components.tokenizer import END, open_engine
from components.tokens import encode_corpus, open_tokens
from components.training.checkpoint import Checkpoints
from components.training.loop import train as run

if TYPE_CHECKING:
    import tokenizers
    import torch

    from components.training.next_token import Sequences

WEIGHTS = "model.safetensors"


def train(rung: Rung, ground: Ground, out: Path) -> dict[str, float]:
    """Learn to predict the corpus's next token, into `out`.

    Raises:
        ValueError: the corpus is too short.
    """
    tokens = ground.checkpoints.parent / f"{ground.checkpoints.name}.tokens"
    tokens.mkdir(parents=True, exist_ok=True)
    encode_corpus(ground.corpus, ground.vocabulary, tokens, ground.report)
    model = build(rung, ground.vocabulary, ground.seed)
    parameters = sum(p.numel() for p in model.parameters())
    rows, context = rung.training.batch_size, rung.model.context
    ground.report.params({"parameters": parameters})
    plan = plan_of(rung.training, rows, ground.seed)
    objective = _objective(rung, model, tokens, ground.seed)
    history = run(objective, plan, Checkpoints(ground.checkpoints, ground.identity), ground.report)
    _save(rung, model.cpu().eval(), out)
    seen = rung.training.steps * rows * context
    about = {"history": history, "parameters": parameters, "tokens": seen}
    write_json(out / "training.json", about)
    last = {key: history[-1][key] for key in ("loss", "validation_loss")}
    return {**last, "parameters": float(parameters), "tokens": float(seen)}


def build(rung: Rung, vocabulary: Path, seed: int) -> "torch.nn.Module":
    """The rung's model, randomly initialised."""
    import torch

    torch.manual_seed(seed)
    return MODELS[rung.model.family](rung.model, vocabulary, seed)


def _decoder(block: Any, vocabulary: Path, seed: int) -> "torch.nn.Module":
    from transformers import AutoTokenizer

    return llama.build(block, AutoTokenizer.from_pretrained(vocabulary), seed)


def _ngram(block: Any, vocabulary: Path, _seed: int) -> "torch.nn.Module":
    from components.models.ngram import NGram

    engine = open_engine(vocabulary)
    return NGram(block, engine.get_vocab_size(), engine.token_to_id(END))


def _recurrent(block: Any, vocabulary: Path, _seed: int) -> "torch.nn.Module":
    from components.models.recurrent import Recurrent

    return Recurrent(block, open_engine(vocabulary).get_vocab_size())


MODELS = {"ngram": _ngram, "rnn": _recurrent, "lstm": _recurrent, "decoder": _decoder}


def _objective(rung: Rung, model: "torch.nn.Module", tokens: Path, seed: int) -> "Sequences":
    from components.training.next_token import NextToken, Sequences, StatesLoss
    from components.training.windows import Windows

    context, rows = rung.model.context, rung.training.batch_size
    windows = Windows(*open_tokens(tokens, "train"), context, seed)
    held_out = open_tokens(tokens, "validation")[0]
    if rung.model.family == "decoder":
        return NextToken(model, windows, held_out, rows, apart=False)
    return Sequences(StatesLoss(model, rows * context), windows, held_out, rows)


def _save(rung: Rung, model: "torch.nn.Module", out: Path) -> None:
    """A decoder as transformers opens it; the others as `load` does."""
    from safetensors.torch import save_file

    if rung.model.family == "decoder":
        model.save_pretrained(out)
        return
    save_file(model.state_dict(), out / WEIGHTS)
    write_json(out / "config.json", rung.model.model_dump(mode="json"))


def load(rung: Rung, vocabulary: Path, folder: Path) -> "torch.nn.Module":
    """The model of a rung's folder, in evaluation mode."""
    from safetensors.torch import load_file

    if rung.model.family == "decoder":
        return llama.load(folder)
    model = build(rung, vocabulary, 0)
    model.load_state_dict(load_file(folder / WEIGHTS))
    return model.eval()


def reader(rung: Rung, model: "torch.nn.Module") -> Reader:
    """What reads documents; one without attention reads them whole, however long."""
    if rung.model.family == "decoder":
        return reader_of(model)
    table = model.get_output_embeddings().weight
    return Reader(lambda ids: model.states(ids) @ table.T, None, len(table))


def states(rung: Rung, model: "torch.nn.Module", ids: "torch.Tensor") -> "torch.Tensor":
    """The last layer's states. (rows, tokens) -> (rows, tokens, width)."""
    if rung.model.family == "decoder":
        return model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    return model.states(ids)


def measure(rung: Rung, ground: Ground, trained: Path, out: Path) -> dict[str, float]:
    """How well the test split is predicted, how far back the model looks, and what it makes of a
    word with two meanings; of stories with sums, whether it can add.
    """
    model = load(rung, ground.vocabulary, trained)
    engine = open_engine(ground.vocabulary)
    end, test = engine.token_to_id(END), ground.corpus / "test.jsonl"
    reads = reader(rung, model)
    records = read_documents(reads, engine, end, sample(test), ground.report)
    write_jsonl(out / "records.jsonl", records)
    figures = _judged(records)
    texts = [row["text"] for row in sample(test)]
    encoded = [[end, *e.ids] for e in engine.encode_batch_fast(texts)]
    write_json(out / "reach.json", reach.measure(model, reads, encoded, rung.model.context))
    figures |= _senses(rung, model, engine, test, out)
    about = read_json(trained / "training.json")
    counts = {key: about[key] for key in ("parameters", "tokens")}
    write_json(out / "metrics.json", {**figures, **counts, "unknown": _unknown(engine, encoded)})
    told = {name: figure["score"] for name, figure in figures.items()}
    solved = arithmetic.solve(reads, engine, end, test)
    if solved:
        write_json(out / "arithmetic.json", solved)
        told |= {"exact_match": solved["all"]["exact_match"]["score"]}
    return told


def _judged(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Perplexity of a word and bits of a byte, with intervals over documents; the ratio to the
    best possible model where it is known.
    """
    sums = [{"statistics": [r["nats"], r["bytes"], r["words"]], "correct": 0} for r in records]
    figures: dict[str, Any] = {}
    for name, metric in METRICS.items():
        score, interval = score_of(sums, metric)
        figures[name] = {"score": score, "interval": interval, "n": len(records)}
    plain = figures_of(list(records))
    if "ratio" in plain:
        figures["ratio"] = {"score": plain["ratio"], "interval": [plain["ratio"]] * 2}
    return figures


METRICS = {"perplexity_per_word": "word_perplexity", "bits_per_byte": "bits_per_byte"}


def _unknown(engine: "tokenizers.Tokenizer", encoded: Sequence[Sequence[int]]) -> float:
    """The share of test tokens that the vocabulary lacks: a model names them all alike."""
    unknown = getattr(engine.model, "unk_token", None)
    number = engine.token_to_id(unknown) if unknown else None
    tokens = np.concatenate([np.array(ids[1:], dtype=np.int64) for ids in encoded])
    return 0.0 if number is None else round(float((tokens == number).mean()), 6)


def _senses(
    rung: Rung, model: "torch.nn.Module", engine: "tokenizers.Tokenizer", test: Path, out: Path
) -> dict[str, Any]:
    """What the states of the word of `senses` tell of its meaning, as far as was read."""
    import torch

    found, end = senses.sentences(test), engine.token_to_id(END)
    vectors = []
    with torch.no_grad():
        for row in found:
            encoding = engine.encode(row["text"])
            stop = senses.place_of(row["text"]) + len(senses.WORD)
            last = max(n for n, (begin, _) in enumerate(encoding.offsets) if begin < stop)
            ids = torch.tensor([[end, *encoding.ids[: last + 1]]])
            vectors.append(states(rung, model, ids)[0, -1].numpy())
    told = senses.told_apart(np.stack(vectors), [row["sense"] for row in found])
    write_json(out / "senses.json", {**told, "texts": [row["text"] for row in found]})
    return {"senses": {"score": told["score"], "interval": told["interval"], "n": told["n"]}}
