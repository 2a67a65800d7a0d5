import logging
from dataclasses import replace
from pathlib import Path

import onnxruntime as ort
import pytest

from bridge.engine import Engine
from bridge.providers import PROVIDERS, ProviderError, choose, open_session, why_missing
from python_core.contract.bundle import BundleError, Manifest

HAS_CUDA = "CUDAExecutionProvider" in ort.get_available_providers()


def test_cpu_loads_and_is_what_we_get(tiny_bundle: Path, manifest: Manifest):
    assert why_missing("cpu") is None
    assert Engine(tiny_bundle, manifest.language_model, "cpu").provider == "CPUExecutionProvider"


def test_an_unknown_provider_is_refused_with_the_known_ones():
    with pytest.raises(ProviderError, match="unknown provider 'gpu'; known are auto, cpu, cuda, tensorrt"):
        choose("gpu")


@pytest.mark.skipif(HAS_CUDA, reason="needs an ONNX Runtime without CUDA")
@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_a_provider_that_is_not_installed_is_an_error_and_not_the_cpu(tiny_bundle: Path, name: str):
    with pytest.raises(ProviderError, match=rf"{PROVIDERS[name][0]}.*pip install '\.\[bridge-gpu\]'"):
        open_session(tiny_bundle / "motion_decoder.onnx", name)


@pytest.mark.skipif(HAS_CUDA, reason="needs an ONNX Runtime without CUDA")
def test_auto_says_what_it_chose_and_why(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        assert choose("auto") == "cpu"
    assert "chose cpu" in caplog.text
    assert "CUDAExecutionProvider" in caplog.text


@pytest.mark.gpu
def test_cuda_is_what_we_get_when_we_ask_for_it(tiny_bundle: Path, manifest: Manifest):
    assert Engine(tiny_bundle, manifest.language_model, "cuda").provider == "CUDAExecutionProvider"


def test_a_file_that_is_no_graph_is_an_error_that_names_it(tmp_path: Path):
    (tmp_path / "a.onnx").write_bytes(b"not a graph")
    with pytest.raises(BundleError, match=r"a\.onnx: ONNX Runtime cannot open it on cpu"):
        open_session(tmp_path / "a.onnx", "cpu")


def test_a_graph_with_other_inputs_is_an_error_that_names_them(tiny_bundle: Path, manifest: Manifest):
    swapped = replace(manifest.language_model, file=manifest.motion_decoder.file)
    with pytest.raises(BundleError, match=r"inputs differ from the manifest: lacks .*attention_mask"):
        Engine(tiny_bundle, swapped, "cpu")
