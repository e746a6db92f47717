"""What a busy neighbour costs a training in two threads, by how OpenMP's threads wait.

`python bench/neighbour.py [--rounds N] [--json FILE]`: tokens a second of a small decoder, alone
and beside a process that keeps one core busy, with threads that spin and threads that sleep.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

POLICIES = ("ACTIVE", "PASSIVE")
STEPS = 30
ROWS, CONTEXT = 4, 128
BUSY = "while True: pass"


def train() -> float:
    """Tokens a second of a decoder like the quickstart's, in two threads."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(2)
    size = {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 2}
    config = LlamaConfig(vocab_size=2048, num_attention_heads=6, **size)
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    ids = torch.randint(0, 2048, (ROWS, CONTEXT))
    for step in range(STEPS + 3):
        if step == 3:  # the first ones warm up
            started = time.perf_counter()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return STEPS * ROWS * CONTEXT / (time.perf_counter() - started)


def measured(policy: str, busy: bool) -> float:
    neighbour = subprocess.Popen([sys.executable, "-c", BUSY]) if busy else None
    try:
        environment = {**os.environ, "OMP_WAIT_POLICY": policy}
        command = [sys.executable, __file__, "--child"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return float(done.stdout)
    finally:
        if neighbour:
            neighbour.kill()
            neighbour.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(train())
        return
    found: dict[str, list[float]] = {}
    for _ in range(given.rounds):
        for busy in (False, True):
            for policy in POLICIES:
                name = f"{policy.lower()}_{'beside' if busy else 'alone'}"
                found.setdefault(name, []).append(measured(policy, busy))
    told = {name: round(statistics.median(values)) for name, values in found.items()}
    for place in ("alone", "beside"):
        told[f"ratio_{place}"] = round(told[f"passive_{place}"] / told[f"active_{place}"], 2)
    print(json.dumps(told, indent=1))
    if given.json:
        given.json.write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main()
