"""Random mixes of adapters in one batch, held against transformers and PEFT, one model at a time.

`python -m tests.mixes --count 1000` does what `tests/test_engine.py` does with some hundred;
`--device cuda` does it on a GPU, engine and references in float32.
"""

import argparse
import json
import random
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import torch
from transformers import AutoTokenizer

from components.adapters import load_adapter, method_of
from components.adapters.encoding import as_text, has_virtual_tokens
from components.inference.backend import Limits, device_named
from components.models import llama
from components.serving.batched_engine import BatchedEngine
from components.serving.engine import BASE, Caller, Sampling
from tests.tiny_models import SOFT, TRAINING, block_of, make_folders, train

MORE = {  # beside one of each method: other ranks, forms and lengths
    "dora": {"method": "lora", "rank": 3, "dora": True, "learning_rate": 0.05, **TRAINING},
    "stabilised": {
        "method": "lora", "rank": 5, "rank_stabilised": True, "targets": ["q_proj", "v_proj"],
        "learning_rate": 0.05, **TRAINING,
    },
    "ensemble": {
        "method": "prompt_tuning", "ensemble": 3, "init": "vocabulary", "learning_rate": 0.5,
        **SOFT,
    },
    "long_prefix": {
        "method": "prefix_tuning", "learning_rate": 0.5, **(SOFT | {"virtual_tokens": 20}),
    },
    "one_block": {
        "method": "prompt_tuning", "learning_rate": 0.5, **(SOFT | {"virtual_tokens": 16}),
    },
    "free_head": {"method": "head", "unfrozen": True, "learning_rate": 0.01, **TRAINING},
}  # fmt: skip
PROMPTS = (
    "the film",
    "g",
    "the plot was a . the cast was d . the film was",
    "the plot was a . the cast was d . the film was b . the end of it was long and slow",
    "<|endoftext|> é ?",
)
LONGEST = 14
TIE = 1e-4  # between two logits; float32 noise may choose either


def more_folders(folders: Mapping[str, Path], top: Path) -> dict[str, Path]:
    """`folders` with those of MORE, trained into `top`."""
    made = dict(folders)
    for name, settings in MORE.items():
        (top / name).mkdir()
        made[name] = train(block_of(settings), folders["taste"], folders["base"], top / name)
    return made


class Reference:
    """What transformers and PEFT say, each model alone; remembered."""

    def __init__(self, folders: Mapping[str, Path], device: torch.device | None) -> None:
        self.folders, self.device = folders, device or torch.device("cpu")
        self.tokenizer = AutoTokenizer.from_pretrained(folders["base"])
        self._models: dict[str, torch.nn.Module] = {}
        self._said: dict[tuple[str, str], Said] = {}

    def model(self, name: str) -> torch.nn.Module:
        if name not in self._models:
            base = self.folders["base"]
            loaded = llama.load(base) if name == BASE else load_adapter(base, self.folders[name])
            self._models[name] = loaded.to(self.device)
        return self._models[name]

    def greedy(self, name: str, prompt: str) -> "Said":
        if (name, prompt) not in self._said:
            self._said[name, prompt] = self._generate(name, prompt)
        return self._said[name, prompt]

    def _generate(self, name: str, prompt: str) -> "Said":
        model, end = self.model(name), self.tokenizer.eos_token_id
        first = [] if has_virtual_tokens(model) else [self.tokenizer.bos_token_id]
        ids = torch.tensor([[*first, *as_text(self.tokenizer, prompt)]], device=self.device)
        made = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=LONGEST,
            do_sample=False, output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
        tokens = made.sequences[0, -len(made.logits) :].tolist()
        size = tokens.index(end) if end in tokens else len(tokens)
        leads = [float(-logits[0].topk(2).values.diff()) for logits in made.logits]
        logprobs = [
            float(logits[0].log_softmax(0)[token])
            for token, logits in zip(tokens, made.logits, strict=True)
        ]
        return Said(tokens[:size], logprobs[:size], leads[:size])


@dataclass
class Said:
    """Tokens up to the end token, their log-probabilities, by how much each beat the next."""

    tokens: list[int]
    logprobs: list[float]
    leads: list[float]


@dataclass
class Asked:
    """One request of a mix, and what came."""

    model: str
    prompt: str
    sampling: Sampling
    tenant: str
    wait: float
    leave: int | None  # after so many tokens the caller goes away
    said: Said | None = None

    def run(self, engine: BatchedEngine) -> None:
        time.sleep(self.wait)
        caller = Caller(self.tenant)
        stream = engine.generate(self.model, engine.encode(self.prompt), self.sampling, caller)
        said = Said([], [], [])
        for token in stream:
            said.tokens.append(token.id)
            said.logprobs.append(token.logprob)
            if len(said.tokens) == self.leave:
                break
        stream.close()
        self.said = said


def draw(chance: random.Random, models: list[str]) -> list[Asked]:
    """A mix of requests that arrive within some steps of each other."""
    mix = []
    for _ in range(chance.randint(2, 9)):
        most, seed = chance.randint(1, LONGEST), chance.randrange(5)
        sampled = chance.random() < 0.3
        sampling = Sampling(most, 0.9, 0.95, seed) if sampled else Sampling(most, 0.0)
        leave = chance.randint(1, 5) if chance.random() < 0.1 else None
        model, prompt, tenant = chance.choice(models), chance.choice(PROMPTS), chance.choice("ab")
        mix.append(Asked(model, prompt, sampling, tenant, chance.random() * 0.02, leave))
    return mix


def run(engine: BatchedEngine, mix: list[Asked]) -> None:
    threads = [threading.Thread(target=asked.run, args=(engine,)) for asked in mix]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def wrong(reference: Reference, engine: BatchedEngine, asked: Asked) -> str | None:
    """What is wrong with an answer; None where it is the reference's."""
    assert asked.said is not None, "the request failed"
    if asked.sampling.temperature:
        alone = Asked(**vars(asked) | {"wait": 0.0, "said": None})
        alone.run(engine)
        expected = alone.said
        expected.leads = [1.0] * LONGEST
    else:
        expected = reference.greedy(asked.model, asked.prompt)
    for place, (found, wanted) in enumerate(zip(asked.said.tokens, expected.tokens, strict=False)):
        if found != wanted:
            tie = expected.leads[place] < TIE
            return None if tie else f"{asked} at {place}, expected {expected}"
        if abs(asked.said.logprobs[place] - expected.logprobs[place]) > TIE:
            return f"{asked} at {place}, expected {expected}"
    length = min(len(expected.tokens), asked.sampling.max_tokens, asked.leave or LONGEST)
    right = len(asked.said.tokens) == length
    return None if right else f"{asked}, expected {length} of {expected}"


def engine_of(
    folders: Mapping[str, Path], models: list[str], device: torch.device | None
) -> BatchedEngine:
    """Small enough that rows, blocks and adapters' memory run short all the time."""
    limits = Limits(rows=5, chunk=12, pool_bytes=1 << 18, adapters=6)
    adapters = {name: folders[name] for name in models if name != BASE}
    room = 400_000 + (0 if device is None else limits.pool_bytes)  # one decoder, whose pool counts
    return BatchedEngine(
        folders["base"], adapters, limits=limits, adapter_bytes=room, device=device
    )


def speakers(folders: Mapping[str, Path]) -> list[str]:
    """The models that continue a text."""
    adapters = [name for name, folder in folders.items() if (folder / "adapter.json").is_file()]
    return [BASE, *(name for name in adapters if method_of(folders[name]).generates)]


def check(
    folders: Mapping[str, Path], count: int, seed: int, device: torch.device | None = None
) -> dict[str, int]:
    """Run so many mixes. device: see `BatchedEngine`.

    Raises:
        AssertionError: an answer is not that of transformers and PEFT, or of the request alone.
    """
    models, chance = speakers(folders), random.Random(seed)
    reference, engine = Reference(folders, device), engine_of(folders, models, device)
    answers = 0
    for _ in range(count):
        mix = draw(chance, models)
        run(engine, mix)
        if chance.random() < 0.1:
            engine.batcher.pool.forget()
        for asked in mix:
            problem = wrong(reference, engine, asked)
            assert problem is None, problem
        answers += len(mix)
    pool, shelf = engine.batcher.pool, engine.shelf
    told = {"mixes": count, "answers": answers, "blocks_evicted": pool.evictions}
    told |= {"adapters_loaded": shelf.loads, "adapters_evicted": shelf.evictions}
    engine.close()
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    torch.set_float32_matmul_precision("highest")  # a GPU's products would round to TF32
    with tempfile.TemporaryDirectory() as name:
        for part in ("base", "more"):
            (Path(name) / part).mkdir()
        with patch("components.training.machine.device", lambda: torch.device("cpu")):
            folders = more_folders(make_folders(Path(name) / "base"), Path(name) / "more")
        started = time.monotonic()
        told = check(folders, given.count, given.seed, device_named(given.device))
    told["seconds"] = round(time.monotonic() - started)
    print(json.dumps(told))
    if given.json:
        given.json.write_text(json.dumps(told))


if __name__ == "__main__":
    main()
