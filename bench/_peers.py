"""What serves decoders beside our engine: transformers' `generate`, its batching, PEFT's mixing.

`Peers` run in a process of their own: the threads of an engine, though they only wait, would make
those of a peer in the same process sleep between two products (see `threads.dismiss_crew`).
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
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


class Peers:
    """Each by its name: `generate`, `continuous`, `peft`; on a GPU `generate_bf16` too, and there
    `peft` is in bfloat16.
    """

    def __init__(
        self, base: Path, lora: Mapping[str, Path], at_once: int, device: torch.device | None
    ) -> None:
        """lora: adapters that PEFT mixes; at_once: requests in a batch."""
        given = (base, dict(lora), at_once, device, torch.get_num_threads())
        self._process = ProcessPoolExecutor(1, get_context("spawn"), _begin, given)

    def run(self, name: str, jobs: Sequence[Job]) -> int:
        """Answer the jobs; the tokens that were wanted."""
        return self._process.submit(_answer, name, jobs).result()

    def close(self) -> None:
        self._process.shutdown()


_known: dict[str, Callable[[Sequence[Job]], int]] = {}  # by the process that runs them


def _begin(
    base: Path, lora: dict[str, Path], at_once: int, device: torch.device | None, threads: int
) -> None:
    torch.set_num_threads(threads)
    place = device or torch.device("cpu")
    model = LlamaForCausalLM.from_pretrained(base).eval().to(place)
    _known["generate"] = partial(generate, model, at_once=at_once)
    _known["continuous"] = partial(continuous, model, at_once=at_once)
    if device is not None:
        model = LlamaForCausalLM.from_pretrained(base, dtype=torch.bfloat16).eval().to(place)
        _known["generate_bf16"] = partial(generate, model, at_once=at_once)
    _known["peft"] = PeftMixed(base, lora, model).generate


def _answer(name: str, jobs: Sequence[Job]) -> int:
    return _known[name](jobs)
