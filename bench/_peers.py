"""What serves decoders beside our engine: transformers' `generate`, its batching, PEFT's mixing."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaForCausalLM

Job = tuple[str, list[int], int]  # a model, a prompt, how many tokens are wanted


def generate(model: torch.nn.Module, jobs: Sequence[Job], at_once: int) -> int:
    """Batches of `at_once` in their order, padded at the left; the tokens that were wanted."""
    for start in range(0, len(jobs), at_once):
        part = jobs[start : start + at_once]
        longest = max(len(ids) for _, ids, _ in part)
        tokens = torch.zeros(len(part), longest, dtype=torch.long)
        mask = torch.zeros_like(tokens)
        for row, (_, ids, _) in enumerate(part):
            tokens[row, longest - len(ids) :] = torch.tensor(ids)
            mask[row, longest - len(ids) :] = 1
        _generate(model, tokens, mask, max(limit for _, _, limit in part))
    return sum(limit for _, _, limit in jobs)


def _generate(model: torch.nn.Module, tokens: torch.Tensor, mask: torch.Tensor, most: int, **more):
    tokens, mask = tokens.to(model.device), mask.to(model.device)
    with torch.inference_mode():
        model.generate(
            input_ids=tokens, attention_mask=mask, max_new_tokens=most, min_new_tokens=most,
            do_sample=False, pad_token_id=0, eos_token_id=None, **more,
        )  # fmt: skip


def continuous(model: torch.nn.Module, jobs: Sequence[Job], at_once: int) -> int:
    """transformers' own continuous batching, each request to its own length."""
    from transformers.generation import ContinuousBatchingConfig

    greedy = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0)
    room = ContinuousBatchingConfig(
        num_blocks=at_once * 8, page_size=64, max_batch_tokens=256, max_requests_per_batch=at_once
    )
    with model.continuous_batching_context_manager(
        generation_config=greedy, continuous_batching_config=room
    ) as manager:
        for _, ids, limit in jobs:
            manager.add_request(ids, max_new_tokens=limit)
        ended = 0
        while ended < len(jobs):
            found = manager.get_result(timeout=60)
            if found is None:
                raise TimeoutError("transformers' continuous batching gave nothing for 60 s")
            ended += found.is_finished()
    return sum(limit for _, _, limit in jobs)


class PeftMixed:
    """PEFT's mixed batches: `adapter_names`, a LoRA for each row."""

    def __init__(self, base: Path, adapters: dict[str, Path], like: torch.nn.Module) -> None:
        """like: a model whose device and precision it has."""
        from peft import PeftModel

        (first, folder), *rest = adapters.items()
        model = LlamaForCausalLM.from_pretrained(base)
        self.model = PeftModel.from_pretrained(model, str(folder), adapter_name=first).eval()
        for name, folder in rest:
            self.model.load_adapter(str(folder), adapter_name=name)
        self.model.to(like.device, like.dtype)

    def generate(self, jobs: Sequence[Job]) -> int:
        """One batch of prompts and answers of equal lengths."""
        tokens = torch.tensor([ids for _, ids, _ in jobs])
        names = [name for name, _, _ in jobs]
        most = jobs[0][2]
        _generate(self.model, tokens, torch.ones_like(tokens), most, adapter_names=names)
        return most * len(jobs)
