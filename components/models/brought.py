"""A foundation model that was brought along: a folder of the Hugging Face form, made ready."""

from pathlib import Path

from components.lineage import write_json
from components.reporter import Reporter

WEIGHTS = "*.safetensors"
TOLD = "brought.json"


def is_brought(base: Path) -> bool:
    """Whether `bring` made that folder; otherwise the base was trained here."""
    return (base / TOLD).is_file()


def bring(source: Path, out: Path, report: Reporter) -> dict[str, float]:
    """Copy the decoder and tokenizer of folder `source` into `out`, as stages expect a base.

    Weights become float32, for they will be adapted on any machine. A tokenizer without a token for
    the beginning of a text gets the one for its end, which stands between documents (as in GPT-2's
    and Qwen's pretraining); one without a token for padding pads with that too, which is masked.

    Raises:
        ValueError: the folder holds no decoder, its weights would have to be unpickled, it needs
            code of its own, or its tokenizer has no token for the end of a text.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _require(source)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        model = AutoModelForCausalLM.from_pretrained(
            source, dtype=torch.float32, use_safetensors=True
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ValueError(
            f"{source} cannot be opened as a decoder with its tokenizer: {error}"
        ) from error
    _complete(tokenizer, source)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise ValueError(
            f"the tokenizer of {source} has {len(tokenizer)} entries, its model embeds only "
            f"{model.get_input_embeddings().num_embeddings}; they do not belong together"
        )
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(model.config, name, getattr(tokenizer, name))
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    parameters = model.num_parameters()
    context = model.config.max_position_embeddings
    family = model.config.model_type
    write_json(out / TOLD, {"family": family, "parameters": parameters})
    report.params({"family": family, "context": context, "parameters": parameters})
    return {"parameters": float(parameters), "context": float(context)}


def _require(source: Path) -> None:
    for pattern, what in (("config.json", "config.json"), (WEIGHTS, f"weights ({WEIGHTS})")):
        if not any(source.glob(pattern)):
            pickled = [path.name for path in source.glob("*.bin")]
            why = f"; {pickled[0]} would have to be unpickled: that runs code" if pickled else ""
            raise ValueError(f"{source} is no model folder: it has no {what}{why}")


def _complete(tokenizer, source: Path) -> None:
    """Give the tokenizer the tokens that prompts and batches need."""
    if tokenizer.eos_token is None:
        raise ValueError(
            f"the tokenizer of {source} has no eos_token, so no text would end; set one in its "
            "tokenizer_config.json"
        )
    if tokenizer.bos_token is None:
        tokenizer.bos_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
