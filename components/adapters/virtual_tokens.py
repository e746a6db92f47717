"""Virtual tokens: what prompt_tuning, p_tuning and prefix_tuning have in common, and begin with."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from components.adapters.encoding import as_answer, as_text
from components.adapters.settings import Trained

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from components.adapters.task_data import TaskData

COMMON = 5000  # Lester et al. 2021, section 3.2: sampled from the most common 5,000 tokens


# what a search tries as `init`, where there is no text of one's own
BEGINNINGS = {"init": ("labels", "vocabulary", "examples", "random")}


class VirtualTokens(Trained):
    """init: what the virtual tokens begin as (Lester et al. 2021, section 3.2).

    `random`; `vocabulary`: common tokens; `labels`: the tokens of the answers, then common ones;
    `text`: those of `init_text`, repeated; `examples`: those of training rows with their answers.
    It moves results by tens of points: tune it. The first always begins as the end of a document,
    after which the base expects a new one.
    """

    virtual_tokens: int = Field(default=16, ge=1)
    init: Literal["random", "vocabulary", "labels", "text", "examples"] = "labels"
    init_text: str | None = None

    @model_validator(mode="after")
    def _text_is_there(self) -> "VirtualTokens":
        if (self.init == "text") != bool(self.init_text):
            raise ValueError("init: text and init_text: '...' belong together")
        return self

    def told_apart(self, width: int | None) -> int | None:
        """How many virtual tokens an encoder can tell apart on a base of that width (None: not
        known yet); None where nothing says, or there is no encoder. See `begin_as`.
        """
        return None


def initial_ids(base: "PreTrainedModel", block: VirtualTokens, data: "TaskData") -> "torch.Tensor":
    """The tokens that the virtual ones begin as; for `random`, common tokens. Shape (tokens,)."""
    import torch

    tokenizer, count = data.tokenizer, block.virtual_tokens - 1
    random = torch.Generator().manual_seed(block.seed)
    special = len(tokenizer.all_special_ids)
    size = min(COMMON, base.config.vocab_size - special)
    common = special + torch.randint(size, (count,), generator=random)
    words = {
        "labels": lambda: as_answer(tokenizer, "a prompt", "".join(data.labels.values())),
        "text": lambda: (as_text(tokenizer, block.init_text or "") * count)[:count],
        "examples": lambda: _examples(data, count, random),
    }
    first = words.get(block.init, list)()
    return torch.tensor([tokenizer.bos_token_id, *first, *common.tolist()][: count + 1])


def _examples(data: "TaskData", count: int, random: "torch.Generator") -> list[int]:
    """The first `count` tokens of training rows with their answers, in random order."""
    import torch

    ids: list[int] = []
    for number in torch.randperm(len(data.rows), generator=random).tolist():
        if len(ids) >= count:
            break
        row = data.rows[number]
        prompt, answer = row["prompt"], row["answer"]
        ids += as_text(data.tokenizer, prompt) + as_answer(data.tokenizer, prompt, answer)
    return ids[:count]


def initial(known: "torch.Tensor", block: VirtualTokens) -> "torch.Tensor":
    """What the virtual tokens begin as, of `known`, which `initial_ids` stand for.

    The same; for `random` noise as spread out as `known`, but for the first. Both have shape
    (virtual tokens, features).
    """
    import torch

    if block.init != "random":
        return known
    random = torch.Generator().manual_seed(block.seed)
    noise = torch.randn(known.shape[0] - 1, known.shape[1], generator=random)
    return torch.cat([known[:1], noise * known.std()])


def initial_embeddings(
    base: "PreTrainedModel", block: VirtualTokens, data: "TaskData"
) -> "torch.Tensor":
    """The input vectors to begin with. Shape (virtual tokens, width)."""
    table = base.get_input_embeddings().weight.detach()  # (vocabulary, width)
    return initial(table[initial_ids(base, block, data)], block)


def begin_as(encoder: "torch.nn.Module", last: "torch.nn.Linear", wanted: "torch.Tensor") -> None:
    """Set `last`, the layer that `encoder` ends with, so that the virtual tokens begin as `wanted`.

    An encoder at random says nothing that a base understands. Fewer tokens than the layer has
    inputs leave it a choice of weights: the smallest are taken.

    Args:
        wanted: shape (virtual tokens, features).

    Raises:
        ValueError: the layer has too few inputs to give each token its own vector.
    """
    import torch

    if last.in_features < len(wanted):
        raise ValueError(
            f"an encoder of width {last.in_features} cannot tell {len(wanted)} virtual tokens "
            "apart; raise encoder_width, or lower virtual_tokens"
        )
    seen: list[torch.Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        encoder(torch.arange(len(wanted)).unsqueeze(0))
        hook.remove()
        features = seen[0].reshape(len(wanted), -1).double()  # (virtual tokens, inputs)
        middle = wanted.mean(0)
        last.bias.copy_(middle)
        last.weight.copy_((torch.linalg.pinv(features) @ (wanted - middle).double()).T)
