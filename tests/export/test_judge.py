"""What a judge says of replies before and after quantization; this one has learned nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from rich.progress import Progress

from export import judge
from export.config import ExportConfig
from export.judge import check_with_judge
from export.parity import ParityError
from export.source import Source, read_source
from python_core.clips.prepared import read_prepared
from python_core.contract.bundle import JudgeParity, Manifest
from python_core.contract.skeleton import BODY_22
from python_core.evaluators.evaluator import Judge, JudgeShape, judge_normalizer
from python_core.evaluators.evaluator_checkpoint import save_judge
from python_core.features import feature_slices
from tests.conftest import MOVES, moved, write_clips

NUM_REPLIES = 12


@pytest.fixture(scope="module")
def source(tiny_checkpoint: Path) -> Source:
    return read_source(tiny_checkpoint)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ExportConfig:
    """Val clips and a judge."""
    folder = tmp_path_factory.mktemp("judged")
    made = []
    for split in ("train", "val"):
        for number, (move, caption) in enumerate(MOVES.items()):
            fields = {"clip_id": f"{split}{number}", "split": split, "captions": (caption,)}
            made.append((moved(*move, 36 + 2 * number), fields))
    write_clips(folder / "clips", made)
    torch.manual_seed(4)
    shape = JudgeShape(movement_width=16, motion_width=16, text_width=16, embedding_width=16, word_width=16)
    normalizer = judge_normalizer(read_prepared(folder / "clips").normalizer)
    save_judge(folder / "judge", Judge(shape, ("unk", "sos", "eos"), normalizer), 20.0, {})
    return ExportConfig(prepared=folder / "clips", judge=folder / "judge", judge_replies=NUM_REPLIES)


def ask(source: Source, bundle: Path, manifest: Manifest, config: ExportConfig) -> JudgeParity:
    with Progress(disable=True) as progress:
        return check_with_judge(source, bundle, manifest, "cpu", config, progress)


def test_the_same_weights_are_as_good_and_what_was_measured_is_told(
    source: Source, tiny_bundle: Path, manifest: Manifest, config: ExportConfig, monkeypatch: pytest.MonkeyPatch
):
    # So few replies, drawn anew, are among the 3 nearest by chance.
    monkeypatch.setattr(judge, "R_AT_3_LOSS", 0.5)
    parity = ask(source, tiny_bundle, manifest, config)
    assert parity.num_replies == NUM_REPLIES
    assert 0 <= parity.r_at_3 <= 1
    assert parity.r_at_3_before - parity.r_at_3 <= parity.max_r_at_3_loss == 0.5
    assert parity.kid - parity.kid_before <= parity.max_kid_gain


def test_motions_that_are_less_like_real_ones_fail(
    source: Source,
    tiny_bundle: Path,
    manifest: Manifest,
    config: ExportConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """The sessions' decoder puts all joints elsewhere; the checkpoint's does not."""
    monkeypatch.setattr(judge, "R_AT_3_LOSS", 1.0)
    for name in manifest.files:
        (tmp_path / name).write_bytes((tiny_bundle / name).read_bytes())
    model, mean = onnx.load(tmp_path / manifest.motion_decoder.file), source.motion_decoder.mean.numpy()
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor).copy()
        if values.shape == mean.shape and np.array_equal(values, mean):
            values[feature_slices(BODY_22)["joint_positions"]] += np.random.default_rng(0).normal(0, 1, 63)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, tmp_path / manifest.motion_decoder.file)
    with pytest.raises(ParityError, match=r"KID grows by .* with these weights, allowed .*; no bundle was written"):
        ask(source, tmp_path, manifest, config)


def test_motions_that_fit_their_captions_less_fail(
    source: Source, tiny_bundle: Path, manifest: Manifest, config: ExportConfig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(judge, "R_AT_3_LOSS", -1.0)  # As if the checkpoint's had fitted by so much more.
    with pytest.raises(ParityError, match=r"R@3 falls by .* with these weights, allowed -1; no bundle was written"):
        ask(source, tiny_bundle, manifest, config)


def test_a_judge_of_another_frame_rate_is_refused(
    source: Source, tiny_bundle: Path, manifest: Manifest, config: ExportConfig
):
    with pytest.raises(ValueError, match="the checkpoint's motion tokenizer"):
        ask(replace(source, frame_rate_hz=30.0), tiny_bundle, manifest, config)
