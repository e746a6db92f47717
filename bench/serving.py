"""Tokens a second of our engine beside its peers: `python bench/serving.py`.

Peers are transformers' `generate` in batches of 16, its continuous batching, and PEFT's
`adapter_names`, in a process of their own. All take turns on the same requests; the medians of the
rounds. The base learns for
some steps, so that what bfloat16 costs can be told; adapters have random weights. `--json FILE`
writes the table, `--plots DIR` draws throughput over requests at once and over adapters.

`--quick` leaves out what takes long: a thousand registered adapters beside 32 of them, and the mix
at 124 M parameters. `--device cuda` is the same on a GPU, where adapters are served in bfloat16 and
peers run in both precisions.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from _adapters import make_adapters, make_base, signed
from _asking import rates, serve, workload
from _curves import draw
from _first_token import of_engine, over_http
from _over_http import shares
from _peers import Job, Peers
from _quality import learn, loss_of, said, windows
from _world import prepare
from transformers import LlamaConfig

from components.inference.backend import Limits, device_named
from components.inference.product import BFLOAT16, FLOAT32
from components.serving.batched_engine import BatchedEngine
from components.serving.engine import BASE

SMALL = {"hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 8, "vocab_size": 4096}
LARGE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
FEED_FORWARD = {256: 704, 768: 2048}
CONTEXT = 1024
ROWS = 16
MIXED, REGISTERED = 32, 1000  # adapters of a mix, and those that a server knows at most


def config_of(sizes: Mapping[str, int], vocabulary: int) -> LlamaConfig:
    feed_forward = FEED_FORWARD[sizes["hidden_size"]]
    return LlamaConfig(
        **sizes | {"vocab_size": vocabulary},
        intermediate_size=feed_forward,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )


class Bench:
    """A base, its engines, and what was measured so far."""

    def __init__(self, top: Path, given: argparse.Namespace) -> None:
        self.top, self.given = top, given
        self.device = device_named(given.device)
        self.told: dict[str, object] = {"threads": torch.get_num_threads()}
        if self.device:
            self.told["device"] = torch.cuda.get_device_name()
        prepare(top / "world", 6000, 4096)
        self.base = top / "base"
        vocabulary = 4096
        self.tokens = top / "world" / "tokens"
        model = make_base(self.base, top / "world" / "tokenizer", config_of(SMALL, vocabulary))
        model.to(self.device or "cpu")
        learn(model, self.tokens, given.steps)
        model.save_pretrained(self.base)
        signed(self.base)
        registered = MIXED if given.quick else REGISTERED
        self.adapters = dict(make_adapters(self.base, top / "adapters", registered))
        lora = {n: f for n, f in self.adapters.items() if n.startswith("lora_8")}
        self.lora = dict(list(lora.items())[:8])
        self.peers = Peers(self.base, self.lora, ROWS, self.device)

    def engine(
        self,
        adapters: Mapping[str, Path],
        rows: int = ROWS,
        precision: str | None = None,
        base: Path | None = None,
    ) -> BatchedEngine:
        """precision: that of the device's table where none is named."""
        usual, chunk = (BFLOAT16, 512) if self.device else (FLOAT32, 128)
        engine = BatchedEngine(
            base or self.base,
            adapters,
            limits=Limits(rows=rows, chunk=chunk, pool_bytes=1 << 30, adapters=2048),
            adapter_bytes=1 << 31,
            precision=precision or usual,
            device=self.device,
        )
        engine.warm()
        return engine

    def beside_generate(self) -> None:
        """One base in both precisions, one after the other, and no adapter."""
        self.what_bfloat16_costs()
        engine = self.engine({}, precision=FLOAT32)
        self.against(engine, "ours", "generate", "fp32")
        if not self.device:
            self.as_clients_see_it(engine)
        engine.close()
        engine = self.engine({}, precision=BFLOAT16)
        self.against(engine, "ours_fast", "generate", "fast")
        if self.device:
            self.against(engine, "ours_fast", "generate_bf16", "bf16")
            self.as_clients_see_it(engine)
        engine.close()

    def against(self, engine: BatchedEngine, name: str, peer: str, kind: str) -> None:
        """The mixed workload, and the same with equal lengths, which padding does not hurt.

        kind: what the ratios are called.
        """
        jobs = workload(self.given.requests, [BASE], 1)
        equal = [(BASE, ids[:16] * 4, 64) for _, ids, _ in jobs[: 2 * ROWS]]
        contestants = {
            name: lambda: serve(engine, jobs),
            peer: lambda: self.peers.run(peer, jobs),
            f"{name}_equal": lambda: serve(engine, equal),
            f"{peer}_equal": lambda: self.peers.run(peer, equal),
        }
        if (name, self.device) == ("ours", None):  # a GPU's wants kernels, packages of their own
            contestants["continuous"] = lambda: self.peers.run("continuous", jobs[: 4 * ROWS])
        found = rates(contestants, self.given.rounds, engine.batcher.pool.forget)
        self.told |= {f"{one}_per_s": rate for one, rate in found.items()}
        self.told[f"ratio_to_generate_{kind}"] = round(found[name] / found[peer], 2)
        ratio = found[f"{name}_equal"] / found[f"{peer}_equal"]
        self.told[f"ratio_to_generate_equal_{kind}"] = round(ratio, 2)
        if "continuous" in found:
            self.told["ratio_to_continuous"] = round(found[name] / found["continuous"], 2)

    def as_clients_see_it(self, engine: BatchedEngine) -> None:
        self.template(engine)
        self.over_http(engine)

    def over_http(self, engine: BatchedEngine) -> None:
        """The mixed workload as clients get it, who share the processor with the server."""
        jobs = workload(self.given.requests, [BASE], 9)
        found = shares(engine, self.top / "workspace", jobs, self.given.rounds)
        self.told |= {f"{name}_per_s": rate for name, rate in found.items()}
        for name in ("http", "http_streamed"):
            self.told[f"{name}_to_engine"] = round(found[name] / found["engine_alone"], 3)

    def what_bfloat16_costs(self) -> None:
        texts, told = windows(self.tokens), []
        for precision in (FLOAT32, BFLOAT16):
            engine = self.engine({}, precision=precision)
            told.append(said(engine, texts))
            engine.close()
        self.told["bfloat16"] = loss_of(*told, texts)

    def against_peft(self) -> None:
        """Equal lengths, 8 adapters of rank 8 in a batch of 16."""
        engine = self.engine(self.lora)
        jobs = [(name, ids[:16] * 2, 48) for name, ids, _ in workload(ROWS, list(self.lora), 2)]
        found = rates(
            {
                "ours_8_lora": lambda: serve(engine, jobs),
                "peft_8_lora": lambda: self.peers.run("peft", jobs),
            },
            self.given.rounds,
            engine.batcher.pool.forget,
        )
        engine.close()
        self.told |= {f"{name}_per_s": rate for name, rate in found.items()}
        self.told["ratio_to_peft_mixed"] = round(found["ours_8_lora"] / found["peft_8_lora"], 2)

    def mixed(self, engine: BatchedEngine, requests: int, longest: int) -> dict[str, float]:
        """The base alone, and 32 adapters of all kinds, on like requests."""
        names = list(engine.shelf.versions())[:MIXED]
        base, mixed = (workload(requests, models, 3, longest) for models in ([BASE], names))
        contestants = {
            "base": lambda: serve(engine, base),
            "mixed_32": lambda: serve(engine, mixed),
        }
        if len(engine.shelf.versions()) > MIXED:
            chance = random.Random(4)
            every = list(engine.shelf.versions())
            spread = [(chance.choice(every), ids, limit) for _, ids, limit in mixed]
            contestants["mixed_all"] = lambda: serve(engine, spread)
        return rates(contestants, self.given.rounds, engine.batcher.pool.forget)

    def adapters_of_all_kinds(self) -> None:
        engine = self.engine(self.adapters)
        found = self.mixed(engine, self.given.requests, 128)
        engine.close()
        self.told |= {f"{name}_per_s": rate for name, rate in found.items()}
        self.told["mixed_32_to_base"] = round(found["mixed_32"] / found["base"], 3)
        if "mixed_all" in found:
            ratio = round(found["mixed_all"] / found["mixed_32"], 3)
            self.told[f"adapters_{len(self.adapters)}_to_32"] = ratio

    def large(self) -> None:
        """The same at 124 M parameters; a processor has fewer and shorter answers to give."""
        base = self.top / "large"
        make_base(base, self.top / "world" / "tokenizer", config_of(LARGE, 50257))
        adapters = dict(make_adapters(base, self.top / "large_adapters", MIXED))
        engine = self.engine(adapters, base=base)
        found = self.mixed(engine, *((self.given.requests, 128) if self.device else (2 * ROWS, 32)))
        engine.close()
        self.told |= {f"{name}_124m_per_s": rate for name, rate in found.items()}
        self.told["mixed_32_to_base_124m"] = round(found["mixed_32"] / found["base"], 3)

    def template(self, engine: BatchedEngine) -> None:
        """The time to a first token behind a cached head of 512 tokens, and without."""
        times = self.given.first_tokens
        without, behind = of_engine(engine, times)
        self.told["first_token_ms"] = round(without * 1e3, 2)
        self.told["template_512_ttft_ratio"] = round(behind / without, 2)
        without, behind = over_http(engine, self.top / "workspace", times)
        self.told["first_token_http_ms"] = round(without * 1e3, 2)
        self.told["template_512_http_ttft_ratio"] = round(behind / without, 2)

    def own_rate(self, engine: BatchedEngine, jobs: list[Job]) -> float:
        contestants = {"ours": lambda: serve(engine, jobs)}
        return rates(contestants, self.given.rounds, engine.batcher.pool.forget)["ours"]

    def curves(self) -> None:
        """Tokens a second over requests at once, and over adapters that they are spread over."""
        over: dict[str, dict[int, float]] = {"requests at once": {}, "adapters": {}}
        for rows in (1, 2, 4, 8, 16, 32, 64):
            engine, jobs = self.engine({}, rows), workload(4 * max(rows, 4), [BASE], 7)
            found = self.own_rate(engine, jobs)
            over["requests at once"][rows] = found
            engine.close()
        engine, names = self.engine(self.adapters), list(self.adapters)
        for count in (1, 8, 32, 128, 512, 1000):
            if count <= len(names):
                jobs = workload(6 * ROWS, names[:count], 8)
                found = self.own_rate(engine, jobs)
                over["adapters"][count] = found
        engine.close()
        self.told["curves"] = over


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--quick", action="store_true", help="32 adapters, 5.8 M parameters alone")
    parser.add_argument("--steps", type=int, default=60, help="that the base learns for")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--first-tokens", type=int, default=40)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plots", type=Path, metavar="DIR")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), given)
        parts = [bench.beside_generate, bench.against_peft, bench.adapters_of_all_kinds]
        parts += [] if given.quick else [bench.large]
        parts += [bench.curves] if given.plots else []
        for part in parts:
            known, started = set(bench.told), time.perf_counter()
            part()
            found = {key: value for key, value in bench.told.items() if key not in known}
            print(f"{part.__name__}: {time.perf_counter() - started:.0f} s: {found}", flush=True)
        bench.peers.close()
    if given.plots:
        draw(bench.told["curves"], given.plots)
    print(json.dumps(bench.told, indent=1))
    if given.json:
        given.json.write_text(json.dumps(bench.told))


if __name__ == "__main__":
    main()
