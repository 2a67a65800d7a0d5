"""The checkpoint that is exported, read and checked."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from torch import nn
from transformers import PreTrainedModel

from python_core.checkpoint import MOTION_TOKENIZER, load_language_model, load_vqvae
from python_core.contract.vocabulary import TokenLayout
from python_core.language_model import token_layout
from python_core.motion_decoder import MotionDecoder
from python_core.motion_model import CONFIG_FIELD, SpeaksMotion

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
"""What both graph builders know and the engine's cache fits: decoders whose layers all attend to everything before.
SmolLM3 is none: onnxruntime-genai 0.15 cannot build its layers without positions.
"""
DEPTH_HEAD = "depth_head."
"""What the names of its weights begin with."""


@dataclass(frozen=True, eq=False)
class Source:
    """What goes into a bundle."""

    language_model: SpeaksMotion
    """As many rows as the tokenizer has tokens."""
    tokenizer: Tokenizer
    tokenizer_file: Path
    tokens: TokenLayout
    motion_decoder: MotionDecoder
    frame_rate_hz: float
    model_id: str
    data_notice: str

    @property
    def num_kv_heads(self) -> int:
        return self.language_model.config.num_key_value_heads

    @property
    def head_dim(self) -> int:
        config = self.language_model.config
        return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def read_source(checkpoint: Path) -> Source:
    """Read a checkpoint.

    Raises:
        ValueError: No checkpoint, one of an architecture that has no graph, a tokenizer that is not the model's, or
            weights that are not numbers.
    """
    folder = checkpoint / "language_model"
    if (folder / "adapter_config.json").is_file():
        raise ValueError(
            f"{folder}: holds an adapter beside its model; merge it first, as the stages that train one do"
        )
    loaded = load_language_model(checkpoint)
    model = loaded.model
    architecture = type(model).__name__
    if architecture not in ARCHITECTURES:
        raise ValueError(
            f"{folder}: architecture {architecture} has no graph; expected one of {', '.join(ARCHITECTURES)}"
        )
    vqvae, normalizer, frame_rate_hz = load_vqvae(checkpoint / MOTION_TOKENIZER)
    tokens = token_layout(loaded.tokenizer, vqvae.shape.codebook)
    _fit_rows(model, tokens.vocabulary_size)
    decoder = MotionDecoder(vqvae, normalizer).eval()
    _check_finite(model, folder)
    _check_finite(decoder, checkpoint / MOTION_TOKENIZER)
    return Source(
        language_model=model,
        tokenizer=loaded.tokenizer,
        tokenizer_file=folder / "tokenizer.json",
        tokens=tokens,
        motion_decoder=decoder,
        frame_rate_hz=frame_rate_hz,
        model_id=loaded.model_id,
        data_notice=loaded.data_notice,
    )


def write_huggingface(source: Source, folder: Path) -> None:
    """Write the language model as the graph builders read it, without its depth head.

    Raises:
        OSError: There is no room on the disk.
    """
    try:
        model = source.language_model
        model.save_pretrained(
            folder,
            state_dict={name: value for name, value in model.state_dict().items() if not name.startswith(DEPTH_HEAD)},
        )
    except SafetensorError as error:  # What its writer raises where others raise OSError.
        raise OSError(f"{folder}: the model cannot be written there ({error})") from error
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    del config[CONFIG_FIELD]
    path.write_text(json.dumps(config), encoding="utf-8")
    shutil.copyfile(source.tokenizer_file, folder / "tokenizer.json")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')


def _fit_rows(model: PreTrainedModel, num_tokens: int) -> None:
    """Drop the rows with which some models are padded; no token has them."""
    embeddings = model.get_input_embeddings()
    assert isinstance(embeddings, nn.Embedding)
    if embeddings.num_embeddings > num_tokens:
        model.resize_token_embeddings(num_tokens, mean_resizing=False)


def _check_finite(model: nn.Module, folder: Path) -> None:
    for name, weights in model.state_dict().items():
        if weights.is_floating_point() and not torch.isfinite(weights).all():
            count = int((~torch.isfinite(weights)).sum())
            raise ValueError(
                f"{folder}: {name} holds {count} numbers that are not finite, of {weights.numel()}; "
                "training diverged or the file is damaged: export an earlier checkpoint"
            )
