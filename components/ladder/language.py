"""The rungs that say what comes next: n-gram, RNN, LSTM, and the decoder of the pipelines."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.evaluation.document_nats import Reader, reader_of
from components.ladder.block import Rung
from components.ladder.ground import Ground
from components.ladder.plan import plan_of
from components.lineage import write_json
from components.models import llama
from components.tokenizer import END, open_engine
from components.tokens import encode_corpus, open_tokens
from components.training.checkpoint import Checkpoints
from components.training.loop import train as run

if TYPE_CHECKING:
    import torch

    from components.training.next_token import Sequences

WEIGHTS = "model.safetensors"


def train(rung: Rung, ground: Ground, out: Path) -> dict[str, float]:
    """Learn to predict the corpus's next token, into `out`.

    Raises:
        ValueError: the corpus is too short.
    """
    tokens = ground.checkpoints / "tokens"  # which go where the checkpoints go
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
