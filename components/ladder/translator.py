"""Models that translate: an LSTM with or without attention, or a Transformer."""

from pathlib import Path

from components.ladder.block import Rung
from components.ladder.ground import Ground
from components.ladder.pairs import encode, open_vocabulary, spaced
from components.ladder.plan import plan_of
from components.lineage import read_jsonl, write_json
from components.models import translation
from components.training.checkpoint import Checkpoints
from components.training.loop import train as run
from components.training.translation import Translation

HELD_OUT = 512  # pairs for the loss curve, evenly spaced


def train(rung: Rung, ground: Ground, out: Path) -> dict[str, float]:
    """Train on the pairs of the corpus: a model folder (see `translation.save`) and
    `training.json`. Pairs of which a side has more than `longest` tokens are left out and counted.

    Raises:
        ValueError: the corpus holds no pairs, or none that is short enough.
    """
    block, vocabulary = rung.model, open_vocabulary(ground.vocabulary)
    pairs, left_out = encode(read_jsonl(ground.corpus / "train.jsonl"), vocabulary, block.longest)
    held_out, _ = encode(read_jsonl(ground.corpus / "validation.jsonl"), vocabulary, block.longest)
    model = translation.build(block, vocabulary.size, vocabulary.pad, ground.seed)
    objective = Translation(
        model,
        pairs,
        spaced(held_out, HELD_OUT),
        rung.training.batch_size,
        block.label_smoothing,
        ground.seed,
    )
    plan = plan_of(rung.training, objective.batches.size, ground.seed)
    parameters = sum(p.numel() for p in model.parameters())
    ground.report.params({"parameters": parameters, "pairs": len(pairs), "left_out": left_out})
    checkpoints = Checkpoints(ground.checkpoints, ground.identity)
    history = run(objective, plan, checkpoints, ground.report)
    translation.save(model.cpu(), block, out)
    tokens = sum(
        len(pairs[number].target) - 1
        for step in range(plan.steps)
        for number in objective.batches(step)
    )
    counts = {"parameters": parameters, "tokens": tokens, "pairs": len(pairs), "left_out": left_out}
    write_json(out / "training.json", {"history": history, **counts})
    return {
        "validation_loss": history[-1]["validation_loss"],
        **{name: float(count) for name, count in counts.items()},
    }
