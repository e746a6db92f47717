"""`prompt_tuning`: trained vectors before the input, all else frozen (Lester et al. 2021)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from components.adapters import peft_folder
from components.adapters.encoding import as_text
from components.adapters.settings import Trained

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

COMMON = 5000  # Lester et al. 2021, section 3.2: sampled from the most common 5,000 tokens


class PromptTuning(Trained):
    """init: where the vectors begin (Lester et al. 2021, section 3.2).

    `random`; `vocabulary`: embeddings of common tokens; `labels`: those of the answers, then common
    tokens; `text`: those of `init_text`, repeated. It moves results by tens of points: tune it. The
    first vector always begins as the end of a document, after which the base expects a new one.
    """

    method: Literal["prompt_tuning"]
    virtual_tokens: int = Field(default=16, ge=1)
    init: Literal["random", "vocabulary", "labels", "text"] = "labels"
    init_text: str | None = None
    learning_rate: float = Field(default=0.3, gt=0)

    @model_validator(mode="after")
    def _text_is_there(self) -> "PromptTuning":
        if (self.init == "text") != bool(self.init_text):
            raise ValueError("init: text and init_text: '...' belong together")
        return self


def build(
    base: "PreTrainedModel",
    block: PromptTuning,
    tokenizer: "PreTrainedTokenizerBase",
    answers: list[str],
) -> "PeftModel":
    """`base` frozen, behind virtual tokens."""
    import torch
    from peft import PromptTuningConfig, get_peft_model

    table = base.get_input_embeddings().weight.detach().clone()  # (vocabulary, width)
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=block.virtual_tokens)
    model = get_peft_model(base, config)
    vectors = _initial(table, block, tokenizer, answers)
    with torch.no_grad():
        model.prompt_encoder["default"].embedding.weight.copy_(vectors)
    return model


def _initial(
    table: "torch.Tensor",
    block: PromptTuning,
    tokenizer: "PreTrainedTokenizerBase",
    answers: list[str],
) -> "torch.Tensor":
    """The first vectors. Shape (virtual tokens, width)."""
    import torch

    start = table[tokenizer.bos_token_id].unsqueeze(0)
    count = block.virtual_tokens - 1
    random = torch.Generator().manual_seed(block.seed)
    if block.init == "random":  # as spread out as the embeddings are
        rest = torch.randn(count, table.shape[1], generator=random) * table.std()
        return torch.cat([start, rest])
    special = len(tokenizer.all_special_ids)
    size = min(COMMON, len(table) - special)
    common = special + torch.randint(size, (count,), generator=random)
    first = {"vocabulary": "", "labels": "".join(answers), "text": block.init_text or ""}
    ids = as_text(tokenizer, first[block.init])
    if block.init == "text":
        ids = (ids * count)[:count]
    rest = table[torch.tensor([*ids, *common.tolist()][:count], dtype=torch.long)]
    return torch.cat([start, rest])


save = peft_folder.save
load = peft_folder.load
