import asyncio
import logging
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from bridge import providers
from bridge.engine import Engine
from bridge.providers import PROVIDERS, ProviderError, choose, open_session, package_conflict, why_missing
from bridge.request import MotionRequest
from bridge.stream import Chunk, MotionModel
from export.bundle_writer import export_bundle
from export.config import ExportConfig
from python_core.contract.bundle import BundleError, Manifest

HAS_CUDA = "CUDAExecutionProvider" in ort.get_available_providers()


def test_cpu_loads_and_is_what_we_get(tiny_bundle: Path, manifest: Manifest):
    assert why_missing("cpu") is None
    assert Engine(tiny_bundle, manifest.language_model, "cpu").provider == "CPUExecutionProvider"


def test_an_unknown_provider_is_refused_with_the_known_ones():
    with pytest.raises(ProviderError, match="unknown provider 'gpu'; known are auto, cpu, cuda, tensorrt"):
        choose("gpu")


@pytest.mark.parametrize(("name", "own"), [("cuda", {}), ("tensorrt", {"trt_engine_cache_enable": "1"})])
def test_a_gpu_multiplies_with_all_digits_from_its_first_session_on(
    name: str, own: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    """Rounded to TF32, the default of CUDA and TensorRT, the pose solver's rotations are no rotations any more."""
    asked: dict[str, dict[str, str]] = {}
    loaded_with: list[str | None] = []

    class Session:
        def __init__(self, *_: object, providers: list[str], provider_options: list[dict[str, str]], **__: object):
            asked.update(zip(providers, provider_options, strict=True))

        def get_providers(self) -> list[str]:
            return [*asked]

    monkeypatch.setattr(providers.ort, "InferenceSession", Session)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    monkeypatch.setattr(
        providers.ort, "preload_dlls", lambda: loaded_with.append(os.environ.get("NVIDIA_TF32_OVERRIDE"))
    )
    providers._create(b"", name, 1, own)
    assert loaded_with == ["0"]
    assert asked["CUDAExecutionProvider"] == {"use_tf32": "0"}
    assert asked[PROVIDERS[name][0]].items() >= own.items()
    assert asked["CPUExecutionProvider"] == {}


@pytest.mark.skipif(HAS_CUDA, reason="needs an ONNX Runtime without CUDA")
@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_a_provider_that_is_not_installed_is_an_error_and_not_the_cpu(tiny_bundle: Path, name: str):
    with pytest.raises(ProviderError, match=rf"{PROVIDERS[name][0]}.*pip install '\.\[bridge-gpu(,tensorrt)?\]'"):
        open_session(tiny_bundle / "motion_decoder.onnx", name)


@pytest.mark.skipif(HAS_CUDA, reason="needs an ONNX Runtime without CUDA")
@pytest.mark.parametrize("made_for", ["cuda", "tensorrt"])
def test_auto_says_what_it_chose_and_why(made_for: str, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        assert choose("auto", made_for) == "cpu"
    assert f"chose cpu (the bundle was exported for {made_for}; " in caplog.text
    assert "cuda does not load: this ONNX Runtime" in caplog.text


def test_auto_takes_the_cpu_for_a_bundle_that_has_no_other_kernels(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        assert choose("auto", "cpu") == "cpu"
    assert "chose cpu (the bundle was exported for cpu)" in caplog.text


def test_a_bundle_for_another_provider_is_refused_with_both_remedies():
    expected = "exported for cpu and runs on cpu; export it again with --provider cuda, or ask for cpu"
    with pytest.raises(ProviderError, match=expected):
        choose("cuda", "cpu")


def test_two_packages_of_onnx_runtime_are_found_and_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for package in ("onnxruntime", "onnxruntime_gpu"):
        folder = tmp_path / f"{package}-9.9.9.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package.replace('_', '-')}\nVersion: 9.9.9\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    told = package_conflict()
    assert told is not None
    assert "onnxruntime 9.9.9 and onnxruntime-gpu 9.9.9 are both installed" in told
    assert "pip uninstall -y onnxruntime onnxruntime-gpu, then install one of" in told
    if not HAS_CUDA:
        assert why_missing("cuda") == told


@pytest.mark.parametrize("part", ["ir_version", "opset", "operator", "attribute", "inputs"])
@pytest.mark.parametrize("package", ["onnxruntime", "onnxruntime-gpu"])
def test_a_graph_of_a_newer_format_is_refused_with_the_remedy(
    part: str, package: str, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(providers, "installed_packages", lambda: {package: "9.9.9"})
    model = onnx.load(tiny_bundle / "motion_decoder.onnx")
    node = model.graph.node[-1]
    if part == "ir_version":
        model.ir_version = 99
    elif part == "opset":
        model.opset_import[0].version = 99
    elif part == "operator":
        node.op_type = "Newer"
    elif part == "attribute":
        node.attribute.append(onnx.helper.make_attribute("newer", 1))
    else:
        node.input.extend([node.input[0]] * 9)
    onnx.save(model, tmp_path / "newer.onnx")
    expected = (
        rf"(?s)newer\.onnx.*newer format than ONNX Runtime [\d.]+ reads: update it \(pip install -\S+ {package}\)"
    )
    with pytest.raises(BundleError, match=expected):
        open_session(tmp_path / "newer.onnx", "cpu")


@pytest.mark.gpu
def test_a_bundle_for_cuda_agrees_with_torch_and_its_streams_with_whole_clips(tiny_checkpoint: Path, tmp_path: Path):
    config = ExportConfig(provider="cuda", precision="fp16", parity_tokens=100)
    parity = export_bundle(tiny_checkpoint, tmp_path / "walker", config).parity
    assert parity is not None
    assert parity.provider == "CUDAExecutionProvider"
    assert parity.language_model.argmax_agreement >= parity.language_model.min_argmax_agreement
    model = MotionModel(tmp_path / "walker", "cuda")
    assert model.engine.provider == model.decoder.provider == "CUDAExecutionProvider"

    async def read() -> list[Chunk]:
        request = MotionRequest(
            prompt="a person walks", seed=5, reasoning=False, max_codes=6, temperature=1.0, top_p=0.9
        )
        return [event async for event in model.perform(request) if isinstance(event, Chunk)]

    chunks = asyncio.run(read())
    model.close()
    whole = model.decoder.decode_whole([chunk.code for chunk in chunks])
    streamed = np.concatenate([chunk.motion.root_positions_m for chunk in chunks])
    assert len(streamed) == 4 * len(chunks) > 0
    assert streamed == pytest.approx(whole.root_positions_m, abs=1e-4)


def test_a_file_that_is_no_graph_is_an_error_that_names_it(tmp_path: Path):
    (tmp_path / "a.onnx").write_bytes(b"not a graph")
    with pytest.raises(BundleError, match=r"a\.onnx: ONNX Runtime cannot open it on cpu"):
        open_session(tmp_path / "a.onnx", "cpu")


def test_a_graph_with_other_inputs_is_an_error_that_names_them(tiny_bundle: Path, manifest: Manifest):
    swapped = replace(manifest.language_model, file=manifest.motion_decoder.file)
    with pytest.raises(BundleError, match=r"inputs differ from the manifest: lacks .*attention_mask"):
        Engine(tiny_bundle, swapped, "cpu")
