import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from bridge.decoder import Decoder, join
from export import bundle_writer, parity
from export.bundle_writer import ExportConfig, export_bundle
from export.parity import ParityError, check_parity
from export.stored_weights import round_to_float16
from python_core.checkpoint import load_language_model, load_vqvae
from python_core.contract.bundle import LanguageModelGraph, Manifest, MotionDecoderGraph, open_bundle
from python_core.contract.skeleton import BODY_22
from python_core.features import feature_slices
from python_core.motion_decoder import MotionDecoder


def test_the_bundle_verifies_and_says_what_parity_measured(tiny_bundle: Path):
    manifest = open_bundle(tiny_bundle).manifest
    assert set(manifest.files) == {"language_model.onnx", "motion_decoder.onnx", "tokenizer.json", "MODEL_CARD.md"}
    measured = manifest.parity
    assert measured.provider == "CPUExecutionProvider"
    assert measured.num_positions >= 100
    assert measured.max_logit_difference <= measured.max_logit_difference_tolerance == 1e-3
    assert measured.argmax_agreement == 1.0
    assert measured.max_root_difference_m <= measured.max_root_difference_tolerance_m == 1e-4
    assert measured.max_rotation_difference_deg <= measured.max_rotation_difference_tolerance_deg == 0.01


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
    def write_language_model_again(_model: object, _checkpoint: object, bundle: Path) -> LanguageModelGraph:
        shutil.copy(tiny_bundle / manifest.language_model.file, bundle)
        return manifest.language_model

    def write_decoder_that_is_1_cm_off(decoder: MotionDecoder, bundle: Path) -> MotionDecoderGraph:
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

    monkeypatch.setattr(bundle_writer, "write_language_model_graph", write_language_model_again)
    monkeypatch.setattr(bundle_writer, "write_motion_decoder_graph", write_decoder_that_is_1_cm_off)
    old = shutil.copytree(tiny_bundle, tmp_path / "old")
    for bundle in (tmp_path / "new", old):
        with pytest.raises(ParityError, match=r"roots differ by metres 0\.0"):
            export_bundle(tiny_checkpoint, bundle, ExportConfig(num_positions=20))
    assert not (tmp_path / "new").exists()
    assert open_bundle(old) == replace(open_bundle(tiny_bundle), folder=old)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old"]


def test_a_language_model_that_differs_fails_parity(tiny_checkpoint: Path, tiny_bundle: Path):
    language_model = load_language_model(tiny_checkpoint)
    vqvae, normalizer, _ = load_vqvae(tiny_checkpoint / "vqvae")
    for model in (language_model.model, vqvae):
        round_to_float16(model)
    manifest = open_bundle(tiny_bundle).manifest
    arguments = (language_model.tokenizer, MotionDecoder(vqvae, normalizer), tiny_bundle, manifest, "cpu", 20)
    check_parity(language_model.model, *arguments)
    with torch.no_grad():
        language_model.model.get_parameter("model.layers.0.mlp.up_proj.weight").mul_(1.01)
    with pytest.raises(ParityError, match="logits differ by"):
        check_parity(language_model.model, *arguments)


def test_a_folder_that_holds_something_else_is_left_alone(tiny_checkpoint: Path, tmp_path: Path):
    (tmp_path / "thesis.doc").write_text("years of work")
    with pytest.raises(ValueError, match=r"holds thesis\.doc"):
        export_bundle(tiny_checkpoint, tmp_path, ExportConfig())
    assert (tmp_path / "thesis.doc").read_text() == "years of work"


def test_an_unknown_provider_and_a_missing_checkpoint_are_refused(tiny_checkpoint: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="provider must be cpu or cuda, got 'tpu'"):
        export_bundle(tiny_checkpoint, tmp_path / "bundle", ExportConfig(provider="tpu"))
    with pytest.raises(ValueError, match="no checkpoint"):
        export_bundle(tmp_path, tmp_path / "bundle", ExportConfig())
    assert list(tmp_path.iterdir()) == []


def test_small_angles_are_measured():
    half = np.radians(0.001) / 2
    turned = np.array([np.sin(half), 0, 0, np.cos(half)])
    assert parity._angles_deg(turned, np.array([0.0, 0, 0, 1])) == pytest.approx(0.001, rel=1e-6)
    assert parity._angles_deg(-turned, turned) == pytest.approx(0, abs=1e-9)
