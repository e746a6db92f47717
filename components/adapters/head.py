"""`head`: a linear classifier on the base's features of a text's last token, in place of words."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from components.adapters.method import Method
from components.adapters.settings import Trained
from components.adapters.task_data import TaskData

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from components.adapters.label_loss import LabelLoss

ROWS = 64  # of a batch


class Head(Trained):
    """Radford et al. 2018, section 3.2. unfrozen: the base below is trained too.

    With a frozen base it is a linear probe (Alain & Bengio 2016). An unfrozen one wants a smaller
    learning rate, as `full` does.
    """

    method: Literal["head"]
    unfrozen: bool = False
    learning_rate: float = Field(default=3e-3, gt=0)


def build(base: "PreTrainedModel", block: Head, data: TaskData) -> "PreTrainedModel":
    """A classifier on top of `base`, undecided at first: its weights are zero.

    Raises:
        ValueError: the task has no labels.
    """
    import copy

    import torch
    from transformers import AutoModelForSequenceClassification

    if not data.labels:
        raise ValueError("a head classifies, and the task has no labels; choose another method")
    config = copy.deepcopy(base.config)
    config.id2label = dict(enumerate(data.labels))
    config.label2id = {label: number for number, label in config.id2label.items()}
    model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    setattr(model, model.base_model_prefix, base.base_model)
    base.base_model.requires_grad_(block.unfrozen)
    torch.nn.init.zeros_(model.score.weight)
    return model.eval()


def save(model: "PreTrainedModel", folder: Path) -> None:
    """Write the whole model, which `AutoModelForSequenceClassification` opens."""
    model.save_pretrained(folder)


def load(base: "PreTrainedModel", folder: Path) -> "PreTrainedModel":
    """The model of `folder`; of `base` it needs nothing."""
    import torch
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)


def objective(model: "PreTrainedModel", block: Head, data: TaskData) -> "LabelLoss":
    """Cross-entropy over the labels. See `method.Method`."""
    from components.adapters.label_loss import LabelLoss

    return LabelLoss(model, data)


def scores(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    labels: Mapping[str, str],
) -> list[dict[str, float]]:
    """The log-probability of each label, in nats, for each prompt."""
    import torch

    from components.adapters.encoding import encode_prompts

    found: list[dict[str, float]] = [{} for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    with torch.no_grad():
        for start in range(0, len(order), ROWS):
            numbers = order[start : start + ROWS]
            ids, mask = encode_prompts(model, tokenizer, [prompts[n] for n in numbers])
            logprobs = model(input_ids=ids, attention_mask=mask).logits.log_softmax(-1)
            for number, row in zip(numbers, logprobs.tolist(), strict=True):
                named = {model.config.id2label[place]: value for place, value in enumerate(row)}
                found[number] = {label: round(named[label], 6) for label in labels}
    return found


def logits(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", text: str
) -> tuple[list[int], "torch.Tensor"]:
    """The tokens read for `text`, and the logits of the labels, shape (labels,)."""
    import torch

    from components.adapters.encoding import encode_prompts

    ids, mask = encode_prompts(model, tokenizer, [text])
    with torch.no_grad():
        return ids[0].tolist(), model(input_ids=ids, attention_mask=mask).logits[0]


METHOD = Method(
    Head,
    build,
    save=save,
    load=load,
    objective=objective,
    scores=scores,
    scored="log-probability of the label",
    logits=logits,
    generates=False,
)
