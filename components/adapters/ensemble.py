"""Several soft prompts of one base that vote, read in one batch (Lester et al. 2021, section 7)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from components.adapters.answer_loss import AnswerLoss
from components.adapters.answering import scores_of_many
from components.adapters.encoding import Batch, answer_losses

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase


class EnsembleLoss(AnswerLoss):
    """The mean of the members' losses, from the same rows; only the clipping they share."""

    def forward(self, batch: Batch, whole: int) -> torch.Tensor:
        return member_losses(self.model, batch).mean(0).sum() / whole


def vote(
    model: "PeftModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    labels: Mapping[str, str],
) -> list[dict[str, float]]:
    """The log of each label's share of votes, for each prompt.

    A member votes for the label whose answer it finds likeliest, by the mean log-probability of a
    token. The members' mean probability of a label counts as one vote more, so that it decides
    where the members are split evenly, and nowhere else.
    """
    return shares_of_votes(scores_of_many(model, tokenizer, prompts, labels, member_losses), labels)


def shares_of_votes(
    found: Sequence[Mapping[str, Sequence[float]]], labels: Iterable[str]
) -> list[dict[str, float]]:
    """What `vote` gives, of the members' mean log-probabilities by label, for each prompt."""
    labels = list(labels)
    scores = torch.tensor([[row[label] for label in labels] for row in found])
    votes = torch.zeros_like(scores).scatter_(1, scores.argmax(1, keepdim=True), 1.0)
    shares = (votes.sum(2) + scores.softmax(1).mean(2)) / (scores.shape[2] + 1)
    return [
        {label: round(value, 6) for label, value in zip(labels, row, strict=True)}
        for row in shares.log().tolist()
    ]


def member_losses(model: "PeftModel", batch: Batch) -> torch.Tensor:
    """-log p of each answer token by each member, in nats. Shape (members, answer tokens)."""
    members = len(model.prompt_encoder)
    size, tokens = batch.input_ids.numel(), len(batch.targets)
    shift = torch.arange(members, device=batch.places.device).repeat_interleave(tokens) * size
    repeated = Batch(
        batch.input_ids.repeat(members, 1),
        batch.attention_mask.repeat(members, 1),
        batch.places.repeat(members) + shift,
        batch.targets.repeat(members),
        batch.lengths * members,
    )
    return answer_losses(_SideBySide(model), repeated).view(members, tokens)


class _SideBySide:
    """The base, of whose batch each member's soft prompt stands before an equal share of rows."""

    def __init__(self, model: "PeftModel") -> None:
        self.base, self.encoders = model.get_base_model(), model.prompt_encoder.values()
        self.get_output_embeddings = self.base.get_output_embeddings

    def __call__(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, use_cache: bool
    ) -> Any:
        prompts = torch.stack([encoder.embedding.weight for encoder in self.encoders])
        front = prompts.repeat_interleave(len(input_ids) // len(prompts), 0)
        vectors = torch.cat([front, self.base.get_input_embeddings()(input_ids)], 1)
        mask = torch.cat([attention_mask.new_ones(front.shape[:2]), attention_mask], 1)
        return self.base(inputs_embeds=vectors, attention_mask=mask, use_cache=use_cache)
