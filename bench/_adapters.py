"""A base of any size that learned nothing, and any number of adapters of all kinds, on disk."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from components.lineage import LINEAGE, content_of, folder_hash, write_json

KINDS: Mapping[str, dict[str, Any]] = {
    "lora_4": {"method": "lora", "rank": 4},
    "soft_prompt": {"method": "prompt_tuning", "virtual_tokens": 16},
    "lora_8": {"method": "lora", "rank": 8},
    "prefix": {"method": "prefix_tuning", "virtual_tokens": 16},
    "ia3": {"method": "ia3"},
    "lora_16": {"method": "lora", "rank": 16},
    "dora_8": {"method": "lora", "rank": 8, "dora": True},
    "prompt": {"method": "prompt"},
}


def signed(folder: Path) -> Path:
    write_json(folder / LINEAGE, {"content": folder_hash(folder), "inputs": {}})
    return folder


def make_base(folder: Path, tokenizer: Path, config: LlamaConfig) -> LlamaForCausalLM:
    """Random weights of `config`, with a tokenizer."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
    signed(folder)
    return model


def _config(settings: Mapping[str, Any]) -> Any:
    from peft import IA3Config, LoraConfig, PrefixTuningConfig, PromptTuningConfig

    task, virtual = "CAUSAL_LM", settings.get("virtual_tokens")
    if settings["method"] == "lora":
        rank, dora = settings["rank"], settings.get("dora", False)
        return LoraConfig(
            task_type=task, r=rank, lora_alpha=2 * rank, target_modules="all-linear", use_dora=dora
        )
    kinds = {"prompt_tuning": PromptTuningConfig, "prefix_tuning": PrefixTuningConfig}
    if settings["method"] in kinds:
        return kinds[settings["method"]](task_type=task, num_virtual_tokens=virtual)
    return IA3Config(task_type=task)


def make_adapters(base: Path, top: Path, count: int) -> Iterator[tuple[str, Path]]:
    """`count` adapters, of each kind in turn, each with weights of its own: names and folders."""
    from peft import get_peft_model

    patterns: dict[str, Path] = {}
    for number in range(count):
        kind = list(KINDS)[number % len(KINDS)]
        settings = KINDS[kind]
        folder = top / f"{kind}_{number}"
        folder.mkdir(parents=True)
        if settings["method"] != "prompt":
            if kind not in patterns:
                patterns[kind] = top / f"pattern_{kind}"
                model = LlamaForCausalLM.from_pretrained(base)
                get_peft_model(model, _config(settings)).save_pretrained(patterns[kind])
            _vary(patterns[kind], folder, number)
        _describe(folder, settings, content_of(base))
        yield folder.name, signed(folder)


def _vary(pattern: Path, folder: Path, seed: int) -> None:
    """The pattern's tensors, but B and virtual tokens at random and scales about 1."""
    random = torch.Generator().manual_seed(seed)
    found = load_file(pattern / "adapter_model.safetensors")
    for name, values in found.items():
        noise = torch.randn(values.shape, generator=random) * 0.02
        if "lora_B" in name or "embeddings" in name:
            found[name] = noise
        elif "ia3" in name or "magnitude" in name:
            found[name] = values * (1 + noise)
    save_file(found, folder / "adapter_model.safetensors")
    config = (pattern / "adapter_config.json").read_text(encoding="utf-8")
    (folder / "adapter_config.json").write_text(config, encoding="utf-8")


def _describe(folder: Path, settings: Mapping[str, Any], base: str) -> None:
    prompt = {"name": "none", "sha": "", "template": "{{text}}", "shot_texts": []}
    told = {"name": folder.name, "method": settings["method"], "task": "none", "base": base}
    told |= {"random_base": None, "prompt": prompt, "labels": {}, "settings": dict(settings)}
    trained = settings["method"] != "prompt"
    write_json(folder / "adapter.json", told | {"trainable_parameters": int(trained)})
