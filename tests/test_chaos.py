"""Real processes, killed at random moments: what they make is what an undisturbed one makes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KILLS = 20


@pytest.mark.slow
def test_twenty_kills_change_no_bit(tmp_path):
    """Pretraining over several epochs, full fine-tuning, LoRA with dropout, prompt tuning."""
    table = tmp_path / "chaos.json"
    command = [sys.executable, ROOT / "bench" / "chaos.py", "--kills", str(KILLS), "--json", table]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(table.read_text())
    assert told["kills"] == KILLS
    assert told["resumed"] >= KILLS // 2, "most tries came to a checkpoint"
    assert {row["training"]: row["bit_equal"] for row in told["trainings"]} == dict.fromkeys(
        ("pretraining", "full", "lora", "prompt_tuning"), True
    )
