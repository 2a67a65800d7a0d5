import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from rich.progress import Progress

from bridge.decoder import Decoder, join
from export import bundle_writer, parity
from export.bundle_writer import export_bundle
from export.config import ExportConfig
from export.parity import ParityError, check_language_model, check_motion_decoder
from export.replies import PROMPTS, WrittenReply, sample_replies
from export.source import Source, read_source
from python_core.contract.bundle import Manifest, MotionDecoderGraph, open_bundle
from python_core.contract.motion import Motion
from python_core.contract.skeleton import BODY_22
from python_core.features import feature_slices
from python_core.motion_decoder import MotionDecoder
from python_core.rotations import multiply
from tests.conftest import write_clips


def test_the_bundle_verifies_and_says_what_parity_measured(tiny_bundle: Path):
    manifest = open_bundle(tiny_bundle).manifest
    graphs = {"language_model.onnx", "depth_head.onnx", "motion_decoder.onnx"}
    assert set(manifest.files) == {*graphs, "tokenizer.json", "MODEL_CARD.md"}
    assert manifest.provider == "cpu"
    assert manifest.parity is not None
    assert manifest.parity.provider == "CPUExecutionProvider"
    words, motions = manifest.parity.language_model, manifest.parity.motion_decoder
    assert words.num_tokens >= 100
    assert words.max_logit_difference_tolerance == 1e-3 >= words.max_logit_difference
    assert words.argmax_agreement == words.min_argmax_agreement == 1.0
    assert words.mean_kl <= words.max_mean_kl == 1e-6
    assert motions.max_root_difference_tolerance_m == 1e-4 >= motions.max_root_difference_m
    assert motions.max_rotation_difference_tolerance_deg == 0.01 >= motions.max_rotation_difference_deg
    assert motions.score == pytest.approx(motions.reference_score, abs=1e-3)


def test_codes_one_by_one_are_the_whole_clip(tiny_bundle: Path):
    manifest = open_bundle(tiny_bundle).manifest
    decoder = Decoder(tiny_bundle, manifest, "cpu")
    codes = np.random.default_rng(5).integers(manifest.tokens.num_codes, size=80).tolist()
    state, parts = decoder.start(), []
    for code in codes:
        part, state = decoder.decode([code], state)
        parts.append(part)
    streamed, whole = join(parts), decoder.decode_whole(codes)
    assert streamed.root_positions_m == pytest.approx(whole.root_positions_m, abs=1e-5)
    assert streamed.joint_rotations == pytest.approx(whole.joint_rotations, abs=1e-5)
    assert streamed.joint_positions_m() == pytest.approx(whole.joint_positions_m(), abs=1e-5)


def test_a_decoder_that_differs_fails_the_export_and_no_manifest_is_written(
    tiny_checkpoint: Path, tiny_bundle: Path, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def write_decoder_that_is_1_cm_off(
        decoder: MotionDecoder, _precision: str, bundle: Path, *_: object
    ) -> MotionDecoderGraph:
        model = onnx.load(tiny_bundle / manifest.motion_decoder.file)
        changed = 0
        for tensor in model.graph.initializer:
            values = numpy_helper.to_array(tensor).copy()
            if values.shape == decoder.mean.shape and np.array_equal(values, decoder.mean.numpy()):
                values[feature_slices(BODY_22)["joint_positions"]] += 0.01
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
                changed += 1
        assert changed == 1
        onnx.save(model, bundle / manifest.motion_decoder.file)
        return manifest.motion_decoder

    monkeypatch.setattr(bundle_writer, "write_motion_decoder_graph", write_decoder_that_is_1_cm_off)
    old = shutil.copytree(tiny_bundle, tmp_path / "old")
    with pytest.raises(ParityError, match=r"roots differ by metres 0\.0"):
        export_bundle(tiny_checkpoint, tmp_path / "new", ExportConfig(parity_tokens=20))
    with pytest.raises(ParityError, match="an old one stays"):
        export_bundle(tiny_checkpoint, old, ExportConfig(parity_tokens=20))
    assert not (tmp_path / "new").exists()
    assert open_bundle(old) == replace(open_bundle(tiny_bundle), folder=old)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old"]


def test_one_joint_in_one_frame_that_is_too_far_off_fails_parity(
    tiny_checkpoint: Path, tiny_bundle: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
):
    decoder = read_source(tiny_checkpoint).motion_decoder
    exact = decoder.motions

    def turned(series: Sequence[Sequence[int]], frame_rate_hz: float) -> list[Motion]:
        """The body leans by 0.009 degrees in the first of 160 frames, which moves its ends by more than 0.1 mm."""
        motions = exact(series, frame_rate_hz)
        lean = torch.tensor([np.sin(np.radians(0.009) / 2), 0, 0, 1], dtype=torch.float32)
        for motion in motions:
            motion.joint_rotations[0, 0] = multiply(lean, torch.tensor(motion.joint_rotations[0, 0])).numpy()
        return motions

    with Progress(disable=True) as progress:
        arguments = (decoder, tiny_bundle, manifest, "cpu", [list(range(40))], progress)
        check_motion_decoder(*arguments)
        monkeypatch.setattr(decoder, "motions", turned)
        with pytest.raises(ParityError, match="a joint differs by metres"):
            check_motion_decoder(*arguments)


@pytest.mark.parametrize("name", ["model.layers.0.mlp.up_proj.weight", "depth_head.layers.0.up.weight"])
def test_a_language_model_or_a_depth_head_that_differs_fails_parity(
    tiny_checkpoint: Path, tiny_bundle: Path, manifest: Manifest, name: str
):
    source = read_source(tiny_checkpoint)
    with Progress(disable=True) as progress:
        replies = sample_replies(source, PROMPTS, 20, 0, progress, "")[:2]
        arguments = (source.language_model, tiny_bundle, manifest, "cpu", replies, progress)
        check_language_model(*arguments)
        with torch.no_grad():
            source.language_model.get_parameter(name).mul_(1.01)
        with pytest.raises(ParityError, match="logits differ by"):
            check_language_model(*arguments)


def test_a_folder_that_holds_something_else_is_left_alone(tiny_checkpoint: Path, tmp_path: Path):
    (tmp_path / "thesis.doc").write_text("years of work")
    with pytest.raises(ValueError, match=r"holds thesis\.doc"):
        export_bundle(tiny_checkpoint, tmp_path, ExportConfig())
    assert (tmp_path / "thesis.doc").read_text() == "years of work"


@pytest.mark.usefixtures("decoder_of_the_tiny_bundle")
def test_calibration_asks_captions_of_train_clips_and_what_it_goes_without_is_told(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    rows = np.zeros((20, 263), np.float32)
    clips = [(split, f"a person walks in {split}.") for split in ("train", "val", "test")]
    write_clips(
        tmp_path / "clips",
        [(rows, {"clip_id": split, "split": split, "captions": (caption,)}) for split, caption in clips],
    )
    asked: list[str] = []

    def note(source: Source, captions: Sequence[str], *rest: Any) -> list[WrittenReply]:
        asked.extend(captions)
        return sample_replies(source, captions, *rest)

    monkeypatch.setattr(bundle_writer, "sample_replies", note)
    config = ExportConfig(precision="int8", parity_tokens=20, calibration_tokens=20)
    with caplog.at_level(logging.WARNING, logger="export"):
        export_bundle(tiny_checkpoint, tmp_path / "b", replace(config, prepared=tmp_path / "clips"))
        assert asked == ["a person walks in train."] * 2
        assert [line for line in caplog.messages if "judge" in line] == caplog.messages != []
        export_bundle(tiny_checkpoint, tmp_path / "b", config)
    assert "calibration asks 12 fixed sentences; --prepared FOLDER asks captions" in caplog.messages


def test_an_unknown_provider_or_precision_and_a_missing_checkpoint_are_refused(tiny_checkpoint: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"provider must be one of cpu, cuda.*, got 'tpu'"):
        export_bundle(tiny_checkpoint, tmp_path / "bundle", ExportConfig(provider="tpu"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="precision must be one of fp32, fp16, int8, int4, got 'int2'"):
        export_bundle(tiny_checkpoint, tmp_path / "bundle", ExportConfig(precision="int2"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no checkpoint"):
        export_bundle(tmp_path, tmp_path / "bundle", ExportConfig())
    assert list(tmp_path.iterdir()) == []


def test_small_angles_are_measured():
    half = np.radians(0.001) / 2
    turned = np.array([np.sin(half), 0, 0, np.cos(half)])
    assert parity.angles_deg(turned, np.array([0.0, 0, 0, 1])) == pytest.approx(0.001, rel=1e-6)
    assert parity.angles_deg(-turned, turned) == pytest.approx(0, abs=1e-9)
