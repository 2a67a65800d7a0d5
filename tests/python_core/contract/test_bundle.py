import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from python_core.contract.bundle import (
    DIGEST,
    FORMAT_VERSION,
    BundleError,
    GraphState,
    LanguageModelGraph,
    LanguageModelParity,
    Manifest,
    MotionDecoderGraph,
    MotionDecoderParity,
    Parity,
    SamplingDefaults,
    ShapeProfile,
    _digest,
    _manifest_bytes,
    open_bundle,
    sha256,
    write_manifest,
)
from python_core.contract.skeleton import BODY_22
from python_core.contract.vocabulary import PROMPT_TEMPLATE, TokenLayout

CONTENTS = {
    "language_model.onnx": b"words to codes",
    "motion_decoder.onnx": b"codes to motion",
    "tokenizer.json": b"{}",
    "MODEL_CARD.md": "# Für wen\n".encode(),
}


def made_manifest() -> Manifest:
    return Manifest(
        format_version=FORMAT_VERSION,
        model_id="made",
        provider="cpu",
        files={name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()},
        skeleton=BODY_22,
        frame_rate_hz=20.0,
        frames_per_code=4,
        prompt_template=PROMPT_TEMPLATE,
        tokens=TokenLayout(
            think_open=5,
            think_close=6,
            motion_open=7,
            motion_close=8,
            first_code=9,
            level_size=4,
            num_levels=1,
            turn_end=2,
            vocabulary_size=14,
        ),
        language_model=LanguageModelGraph(
            file="language_model.onnx",
            num_layers=2,
            num_kv_heads=1,
            head_dim=16,
            max_positions=256,
            precision="int8",
            weights="8 bits, blocks of 32",
            profiles=(ShapeProfile(input="input_ids", min=(1, 1, 1), opt=(16, 1, 1), max=(16, 64, 1)),),
        ),
        depth_head=None,
        motion_decoder=MotionDecoderGraph(
            file="motion_decoder.onnx",
            states=(GraphState(name="root_state", shape=(3,)), GraphState(name="conv_state.0", shape=(18, 32))),
            precision="fp32",
            profiles=(),
        ),
        sampling=SamplingDefaults(temperature=1.0, top_p=0.9, reasoning_temperature=0.5),
        parity=Parity(
            provider="cpu",
            language_model=LanguageModelParity(
                num_tokens=1000,
                max_logit_difference=0.5,
                max_logit_difference_tolerance=None,
                argmax_agreement=0.99,
                min_argmax_agreement=0.97,
                mean_kl=1e-3,
                max_mean_kl=5e-3,
            ),
            motion_decoder=MotionDecoderParity(
                num_frames=400,
                max_root_difference_m=1e-6,
                max_root_difference_tolerance_m=1e-4,
                max_rotation_difference_deg=1e-3,
                max_rotation_difference_tolerance_deg=0.01,
                mean_joint_difference_m=1e-6,
                mean_joint_difference_tolerance_m=1e-4,
                score=0.7,
                reference_score=0.7,
                max_score_loss=0.02,
            ),
            judge=None,
        ),
        licence="CC0-1.0",
        data_notice="Zwei Sätze, made.",
    )


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    for name, content in CONTENTS.items():
        (tmp_path / name).write_bytes(content)
    write_manifest(tmp_path, made_manifest())
    return tmp_path


def change(bundle: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = bundle / "manifest.json"
    fields = json.loads(path.read_text(encoding="utf-8"))
    edit(fields)
    # A manifest that was written so: its own SHA-256 is right.
    fields.pop(DIGEST, None)
    path.write_bytes(_manifest_bytes(fields | {DIGEST: _digest(fields)}))


def refusal(bundle: Path) -> str:
    with pytest.raises(BundleError) as caught:
        open_bundle(bundle)
    return str(caught.value)


def test_a_manifest_from_before_reasoning_had_a_temperature_draws_it_like_the_motion(bundle: Path):
    change(bundle, lambda fields: fields["sampling"].pop("reasoning_temperature"))
    assert open_bundle(bundle).manifest.sampling == SamplingDefaults(temperature=1.0, top_p=0.9)
    change(bundle, lambda fields: fields["sampling"].update(reasoning_temperature=-1.0))
    assert "reasoning_temperature must be 0 or more, got -1.0" in refusal(bundle)


def test_a_manifest_comes_back_from_its_file(bundle: Path):
    opened = open_bundle(bundle)
    assert opened.manifest == made_manifest()
    assert opened.folder == bundle
    assert opened.revision == sha256(bundle / "manifest.json")


def test_the_revision_changes_with_the_manifest(bundle: Path):
    before = open_bundle(bundle).revision
    write_manifest(bundle, replace(made_manifest(), model_id="other"))
    assert open_bundle(bundle).revision != before


def test_sha256_is_that_of_the_standard(tmp_path: Path):
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(tmp_path / "abc") == expected


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("place", [0, -1])
def test_one_changed_byte_is_found(bundle: Path, name: str, place: int):
    content = bytearray(CONTENTS[name])
    content[place] ^= 1
    (bundle / name).write_bytes(content)
    message = refusal(bundle)
    assert message.startswith(f"{bundle / name}: SHA-256 is {hashlib.sha256(content).hexdigest()}")
    assert "copy the bundle again or export it again" in message


@pytest.mark.parametrize("name", CONTENTS)
def test_a_missing_file_is_named(bundle: Path, name: str):
    (bundle / name).unlink()
    assert refusal(bundle) == f"{bundle / name}: missing; copy the whole bundle or export it again"


def test_without_a_manifest_there_is_no_bundle(bundle: Path):
    (bundle / "manifest.json").unlink()
    assert refusal(bundle) == (f"{bundle}: no manifest.json, so no complete bundle; make one with python -m export")


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, FORMAT_VERSION - 1, str(FORMAT_VERSION), None])
def test_another_format_version_is_refused_before_anything_else_is_read(bundle: Path, version: object):
    change(bundle, lambda fields: (fields.clear(), fields.update(format_version=version)))
    assert refusal(bundle) == (
        f"{bundle / 'manifest.json'}: format_version {version}, this bridge reads {FORMAT_VERSION}; "
        "export it again or update the bridge"
    )


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00"])
def test_a_manifest_that_is_not_json_is_refused(bundle: Path, content: bytes):
    (bundle / "manifest.json").write_bytes(content)
    message = refusal(bundle)
    assert message.startswith(f"{bundle / 'manifest.json'}: not JSON (")
    assert message.endswith("export the bundle again")


def test_a_manifest_that_is_no_object_is_refused(bundle: Path):
    (bundle / "manifest.json").write_text("[1]")
    assert "format_version None" in refusal(bundle)


# What is done to the manifest, and what the error says after its path.
CHANGED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "missing field": (lambda f: f.pop("licence"), "manifest lacks licence; export the bundle again"),
    "two missing fields": (
        lambda f: (f.pop("tokens"), f.pop("parity")),
        "manifest lacks parity, tokens; export the bundle again",
    ),
    "missing inner field": (lambda f: f["tokens"].pop("turn_end"), "tokens lacks turn_end; export the bundle again"),
    "unknown field": (lambda f: f.update(mood="good"), "manifest has unknown fields mood; update the bridge"),
    "unknown inner field": (
        lambda f: f["motion_decoder"].update(fps=20),
        "motion_decoder has unknown fields fps; update the bridge",
    ),
    "a part that is no object": (
        lambda f: f.update(sampling=[1.0, 0.9]),
        "sampling must be an object, got [1.0, 0.9]; export the bundle again",
    ),
    "a skeleton that is none": (
        lambda f: f["skeleton"].update(parents=f["skeleton"]["parents"][:-1]),
        "skeleton is not valid (skeleton body22: names, parents, offsets and mirror differ in number",
    ),
    "files in a list": (
        lambda f: f.update(files=list(CONTENTS)),
        "manifest is not valid (files must be dict",
    ),
    "a rate in words": (
        lambda f: f.update(frame_rate_hz="fast"),
        "manifest is not valid (frame_rate_hz must be float, got 'fast')",
    ),
    "a count in words": (
        lambda f: f["tokens"].update(level_size="4"),
        "tokens is not valid (level_size must be int, got '4')",
    ),
    "no parity": (lambda f: f.update(parity=None), "parity was not measured; export the bundle again"),
    "a tolerance in words": (
        lambda f: f["parity"]["language_model"].update(max_logit_difference_tolerance="none"),
        "language_model is not valid (max_logit_difference_tolerance must be float, got 'none')",
    ),
    "a profile that is no shape": (
        lambda f: f["language_model"]["profiles"][0].update(opt=16),
        "profiles is not valid (opt must be tuple, got 16)",
    ),
    "a motion decoder that hands on joints": (
        lambda f: (f["motion_decoder"].pop("states"), f["motion_decoder"].update(num_past_frames=8)),
        "motion_decoder lacks states; export the bundle again",
    ),
    "a state that has no shape": (
        lambda f: f["motion_decoder"]["states"][0].update(shape=3),
        "states is not valid (shape must be tuple, got 3)",
    ),
    "a name in a folder": (
        lambda f: f["files"].update({"weights/a.bin": "0"}),
        "'weights/a.bin' is not a file name; a bundle's files lie beside its manifest",
    ),
    "a name above": (
        lambda f: f["files"].update({"../secret": "0"}),
        "'../secret' is not a file name; a bundle's files lie beside its manifest",
    ),
    "an absolute name": (
        lambda f: f["files"].update({"/etc/hostname": "0"}),
        "'/etc/hostname' is not a file name; a bundle's files lie beside its manifest",
    ),
    "levels and no depth head": (
        lambda f: f["tokens"].update(num_levels=2),
        "manifest is not valid (codes of 2 levels and no depth_head do not go together)",
    ),
    "a graph that is not listed": (
        lambda f: f["files"].pop("motion_decoder.onnx"),
        "files lacks motion_decoder.onnx; export the bundle again",
    ),
    "a tokenizer that is not listed": (
        lambda f: f["files"].pop("tokenizer.json"),
        "files lacks tokenizer.json; export the bundle again",
    ),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_manifest_that_does_not_fit_is_refused_with_file_reason_and_remedy(bundle: Path, name: str):
    edit, expected = CHANGED[name]
    change(bundle, edit)
    message = refusal(bundle)
    assert message.startswith(f"{bundle / 'manifest.json'}: {expected}"), message
    assert "export the bundle again" in message or "update the bridge" in message or "beside" in message


def test_files_that_the_manifest_does_not_name_are_left_alone(bundle: Path):
    (bundle / "notes.txt").write_text("mine")
    assert open_bundle(bundle).manifest == made_manifest()
