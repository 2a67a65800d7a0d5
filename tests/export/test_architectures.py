"""Tiny random models of each architecture that export promises; parity fails where a graph computes something else."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from bridge.stream import MotionModel
from export import bundle_writer
from export.bundle_writer import export_bundle
from export.config import ExportConfig, Provider
from export.source import ARCHITECTURES, read_source
from python_core.contract.bundle import Manifest, MotionDecoderGraph
from python_core.depth_head import DepthHeadShape
from python_core.language_model import speak_motion

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "LlamaForCausalLM": ("llama", {"tie_word_embeddings": True}),
    "MistralForCausalLM": ("mistral", {"head_dim": 16, "sliding_window": None}),
    "Qwen2ForCausalLM": ("qwen2", {"tie_word_embeddings": True}),
    # Heads that together are wider than the model, as Qwen3's are.
    "Qwen3ForCausalLM": ("qwen3", {"tie_word_embeddings": False, "head_dim": 32}),
}


def write_checkpoint(tiny_checkpoint: Path, folder: Path, architecture: str) -> Path:
    """The tiny checkpoint with another language model, in which nothing is zero."""
    shutil.copytree(tiny_checkpoint, folder, ignore=shutil.ignore_patterns("training"))
    tokens = read_source(folder).tokens
    kind, own = KINDS[architecture]
    torch.manual_seed(3)
    config = AutoConfig.for_model(kind, vocab_size=tokens.vocabulary_size, **(SIZES | own))
    plain = AutoModelForCausalLM.from_config(config)
    assert type(plain).__name__ == architecture
    model = speak_motion(plain, tokens, DepthHeadShape(width=16, layers=1, feed_forward=16))
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.05 * torch.randn_like(weights))
    model.save_pretrained(folder / "language_model")
    return folder


def test_every_architecture_is_tried():
    assert set(KINDS) == set(ARCHITECTURES)


@pytest.mark.parametrize("provider", ["cpu", pytest.param("tensorrt", marks=pytest.mark.slow)])
@pytest.mark.parametrize("architecture", KINDS)
def test_an_architecture_is_exported_agrees_with_torch_and_answers(
    architecture: str,
    provider: Provider,
    tiny_checkpoint: Path,
    tiny_bundle: Path,
    manifest: Manifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    def copy(_decoder: object, _precision: str, bundle: Path, *_: object) -> MotionDecoderGraph:
        shutil.copy(tiny_bundle / manifest.motion_decoder.file, bundle)
        return manifest.motion_decoder

    monkeypatch.setattr(bundle_writer, "write_motion_decoder_graph", copy)  # It takes longest, and is the same.
    checkpoint = write_checkpoint(tiny_checkpoint, tmp_path / "checkpoint", architecture)
    config = ExportConfig(provider=provider, check_on="cpu", parity_tokens=100)
    exported = export_bundle(checkpoint, tmp_path / "bundle", config)
    assert exported.parity is not None
    measured = exported.parity.language_model
    assert measured.num_tokens >= 100
    assert measured.max_logit_difference <= 1e-3
    assert measured.argmax_agreement == 1.0
    MotionModel(tmp_path / "bundle", "cpu").warm_up()
