import logging
from dataclasses import replace
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest

from bridge import providers
from bridge.engine import Engine
from bridge.providers import PROVIDERS, ProviderError, choose, open_session, package_conflict, why_missing
from python_core.contract.bundle import BundleError, Manifest

HAS_CUDA = "CUDAExecutionProvider" in ort.get_available_providers()


def test_cpu_loads_and_is_what_we_get(tiny_bundle: Path, manifest: Manifest):
    assert why_missing("cpu") is None
    assert Engine(tiny_bundle, manifest.language_model, "cpu").provider == "CPUExecutionProvider"


def test_an_unknown_provider_is_refused_with_the_known_ones():
    with pytest.raises(ProviderError, match="unknown provider 'gpu'; known are auto, cpu, cuda, tensorrt"):
        choose("gpu")


@pytest.mark.parametrize(("name", "own"), [("cuda", {}), ("tensorrt", {"trt_engine_cache_enable": "1"})])
def test_cuda_multiplies_with_all_digits_wherever_it_runs(
    name: str, own: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    """Rounded to TF32, which is CUDA's default, the pose solver's rotations are no rotations any more."""
    asked: dict[str, dict[str, str]] = {}

    class Session:
        def __init__(self, *_: object, providers: list[str], provider_options: list[dict[str, str]], **__: object):
            asked.update(zip(providers, provider_options, strict=True))

        def get_providers(self) -> list[str]:
            return [*asked]

    monkeypatch.setattr(providers.ort, "InferenceSession", Session)
    monkeypatch.setattr(providers, "_load_libraries", lambda: None)
    providers._create(b"", name, 1, own)
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


@pytest.mark.parametrize("field", ["ir_version", "opset"])
def test_a_graph_of_a_newer_format_is_refused_with_the_remedy(field: str, tiny_bundle: Path, tmp_path: Path):
    model = onnx.load(tiny_bundle / "motion_decoder.onnx")
    if field == "ir_version":
        model.ir_version = 99
    else:
        model.opset_import[0].version = 99
    onnx.save(model, tmp_path / "newer.onnx")
    with pytest.raises(BundleError, match=r"(?s)newer\.onnx.*newer format than ONNX Runtime [\d.]+ reads: update it"):
        open_session(tmp_path / "newer.onnx", "cpu")


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
