"""Requests made up from the OpenAPI document: `python bench/fuzz.py --requests 10000 --json FILE`.

A server of tiny models listens on a real socket, with an API key; schemathesis sends it what the
document allows and what it forbids, and checks every answer against the document. `server_errors`
counts answers of 5xx, `slowest_seconds` is of all answers, `failed_checks` says what schemathesis
found. It ends with an error where there is any of these, or an answer took longer than a minute.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from components.serving.gateway import Gateway
from components.serving.limits import Serving
from components.serving.story import Story
from tests.serving import listening, make_gateway
from tests.tiny_models import make_folders

LIMITS = Serving(requests_per_minute=10**6, queue=64, seconds=60, output_tokens=32)
LONGEST_SECONDS = 60
EXAMPLES = 60  # of each endpoint in a round; each round has a seed of its own
MODELS = ("base", "lora", "soft_prompt", "zero_shot")
# an unknown model, or a prompt that is too long, is refused though its form is right
EXCLUDED = "positive_data_acceptance"


class Heard:
    """What the server answered."""

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
        self.slowest = 0.0

    def __call__(self, story: Story) -> None:
        self.statuses[story.status] = self.statuses.get(story.status, 0) + 1
        self.slowest = max(self.slowest, story.seconds)


def fuzz(gateway: Gateway, examples: int, seed: int = 1) -> dict:
    """Send about `examples` requests to each endpoint; say what came of it."""
    heard, key = Heard(), gateway.keys.add("fuzz", None, None)
    gateway.listeners.append(heard)
    with listening(gateway) as address:
        command = [
            sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json",
            "--header", f"Authorization: Bearer {key}", "--max-examples", str(examples),
            "--seed", str(seed), "--exclude-checks", EXCLUDED, "--continue-on-failure",
            "--request-timeout", str(LONGEST_SECONDS), "--suppress-health-check", "all",
            "--no-color",
        ]  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:  # it keeps examples where it is started
            done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    return {
        "requests": sum(heard.statuses.values()),
        "statuses": dict(sorted(heard.statuses.items())),
        "server_errors": sum(n for status, n in heard.statuses.items() if status >= 500),
        "slowest_seconds": round(heard.slowest, 3),
        "failed_checks": re.findall(r"^- (.+)$", done.stdout, re.MULTILINE),
        "exit": done.returncode,
        "said": done.stdout[-6000:] if done.returncode else "",
    }


def together(rounds: list[dict]) -> dict:
    """All rounds as one."""
    statuses = sum((Counter(one["statuses"]) for one in rounds), Counter())
    return {
        "requests": statuses.total(),
        "statuses": dict(sorted(statuses.items())),
        "server_errors": sum(one["server_errors"] for one in rounds),
        "slowest_seconds": max(one["slowest_seconds"] for one in rounds),
        "failed_checks": [said for one in rounds for said in one["failed_checks"]],
        "exit": max(one["exit"] for one in rounds),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--requests", type=int, default=10_000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        made = make_folders(Path(folder))
        few = {name: made[name] for name in MODELS}
        while sum(one["requests"] for one in rounds) < given.requests:
            workspace = Path(tempfile.mkdtemp(dir=folder))
            gateway = make_gateway(few, workspace, LIMITS)
            rounds.append(fuzz(gateway, EXAMPLES, given.seed + len(rounds)))
            print(f"round {len(rounds)}: {rounds[-1]['statuses']}", flush=True)
            if rounds[-1]["exit"]:
                break
    told = together(rounds)
    print(rounds[-1]["said"])
    print(json.dumps(told, indent=1))
    if given.json:
        given.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    if told["exit"] or told["server_errors"] or told["slowest_seconds"] > LONGEST_SECONDS:
        sys.exit("an answer was not as the document says")


if __name__ == "__main__":
    main()
