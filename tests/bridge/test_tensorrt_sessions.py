"""Sessions on TensorRT, which is played by something that leaves behind the files that TensorRT would write."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from bridge import providers, tensorrt_engines
from bridge.config import ServeConfig
from bridge.providers import ProviderError, build_engine, graphs_on_tensorrt, most_rows, open_session
from bridge.service import open_model
from export import bundle_writer, graph_file
from export.bundle_writer import export_bundle
from export.config import ExportConfig
from export.graph_file import write_graph
from python_core.contract.bundle import (
    MANIFEST,
    BundleError,
    Manifest,
    MotionDecoderGraph,
    Parity,
    ShapeProfile,
    open_bundle,
    write_manifest,
)

CpuSession = ort.InferenceSession


class TensorrtSession:
    """Its engine is a file that is written where there is none."""

    opened: ClassVar[list[tuple[str, dict[str, str]]]] = []
    """Graph and options of each."""
    built: ClassVar[list[str]] = []
    """Graphs whose engines were not there."""

    def __init__(self, model: str, providers: list[str], options: dict[str, str]) -> None:
        self._providers, name = providers, Path(model).name
        self.opened.append((name, options))
        folder = Path(options.get("trt_ep_context_file_path") or options["trt_engine_cache_path"])
        if not (folder / "engine_1.engine").exists():
            self.built.append(name)
            (folder / "engine_1.engine").write_bytes(b"native code")
            if "trt_dump_ep_context_model" in options:
                (folder / f"{Path(model).stem}_ctx.onnx").write_bytes(b"an engine as a graph")

    def get_providers(self) -> list[str]:
        return self._providers


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[TensorrtSession]]:
    def session(
        model: str,
        sess_options: ort.SessionOptions | None = None,
        providers: Sequence[str] = (),
        provider_options: Sequence[dict[str, str]] = ({},),
    ) -> Any:
        if providers[0] == "CPUExecutionProvider":
            return CpuSession(model, sess_options, providers)
        return TensorrtSession(model, [*providers], provider_options[0])

    available = [*providers.PROVIDERS["tensorrt"]]
    monkeypatch.setattr(providers.ort, "get_available_providers", lambda: available)
    monkeypatch.setattr(providers.ort, "InferenceSession", session)
    monkeypatch.setattr(providers, "_load_libraries", lambda: None)
    monkeypatch.setattr(tensorrt_engines, "tensorrt_version", lambda: "10.16.1")
    monkeypatch.setattr(tensorrt_engines, "gpu_name", lambda: "NVIDIA L4 8.9")
    yield TensorrtSession
    TensorrtSession.opened.clear()
    TensorrtSession.built.clear()


@pytest.fixture
def bundle(tiny_bundle: Path, manifest: Manifest, tmp_path: Path) -> Path:
    """The tiny bundle as if it had been exported for TensorRT."""
    folder = shutil.copytree(tiny_bundle, tmp_path / "walker")
    (folder / MANIFEST).unlink()

    def profiled(graph: Any, most: int) -> Any:
        return replace(graph, profiles=(ShapeProfile(input="x", min=(1, 1), opt=(8, 1), max=(most, 9)),))

    language_model, motion_decoder = profiled(manifest.language_model, 16), profiled(manifest.motion_decoder, 64)
    write_manifest(
        folder,
        replace(manifest, provider="tensorrt", language_model=language_model, motion_decoder=motion_decoder),
    )
    return folder


@pytest.fixture
def made_for_tensorrt(bundle: Path) -> Manifest:
    return open_bundle(bundle).manifest


def write_weights(folder: Path, factor: float) -> Path:
    """A graph of one product, whose weights lie beside it."""
    weights = numpy_helper.from_array(factor * np.ones((64, 64), np.float32), "weights")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 64]) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "weights"], ["y"])], "graph", [x], [y], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    write_graph(model, folder / "language_model.onnx")
    return folder / "language_model.onnx"


def test_an_engine_is_built_at_the_first_opening_and_opened_again_afterwards(
    tensorrt: type[TensorrtSession], bundle: Path, made_for_tensorrt: Manifest
):
    graph = replace(made_for_tensorrt.motion_decoder, precision="fp16")
    for _ in range(2):
        session = open_session(bundle / graph.file, "tensorrt", 1, graph)
        assert session.get_providers() == [*providers.PROVIDERS["tensorrt"]]
    assert tensorrt.built == [graph.file]
    (_, first), (_, second) = tensorrt.opened
    assert {name: value.removesuffix(".building") for name, value in first.items()} == second
    assert first["trt_profile_max_shapes"] == "x:64x9"


def test_only_a_language_model_computes_in_float16(
    tensorrt: type[TensorrtSession], bundle: Path, made_for_tensorrt: Manifest
):
    """The pose solver, which lies in the decoder, needs float32; its weights are only stored in float16."""
    for graph in graphs_on_tensorrt(made_for_tensorrt):
        for precision in ("fp32", "fp16"):
            open_session(bundle / graph.file, "tensorrt", 1, replace(graph, precision=precision))
    allowed = [(name, options["trt_fp16_enable"]) for name, options in tensorrt.opened]
    language_model, decoder = (graph.file for graph in graphs_on_tensorrt(made_for_tensorrt))
    assert allowed == [(language_model, "0"), (language_model, "1"), (decoder, "0"), (decoder, "0")]


def test_a_build_that_fails_or_is_killed_is_begun_again_at_the_next_opening(
    tensorrt: type[TensorrtSession],
    bundle: Path,
    made_for_tensorrt: Manifest,
    monkeypatch: pytest.MonkeyPatch,
):
    graph = made_for_tensorrt.motion_decoder
    with monkeypatch.context() as patch:
        patch.setattr(tensorrt, "get_providers", lambda _: ["CPUExecutionProvider"])
        with pytest.raises(ProviderError, match="fell back to CPU"):
            open_session(bundle / graph.file, "tensorrt", 1, graph)
    for _ in range(2):
        open_session(bundle / graph.file, "tensorrt", 1, graph)
    assert tensorrt.built == [graph.file] * 2


def test_other_weights_beside_the_same_graph_have_an_engine_of_their_own(
    tensorrt: type[TensorrtSession], made_for_tensorrt: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A model that learned on has the graph of the old one, byte for byte, where its weights are large."""
    monkeypatch.setattr(graph_file, "MAX_FILE_BYTES", 1000)
    (tmp_path / "learned").mkdir()
    graph = made_for_tensorrt.language_model
    path = write_weights(tmp_path / "learned", 1.0)
    before = path.read_bytes()
    build_engine(path.parent, graph, context=False)
    assert write_weights(tmp_path / "learned", 2.0).read_bytes() == before
    build_engine(path.parent, graph, context=False)
    assert len(tensorrt.built) == 2


def test_an_engine_that_was_written_as_a_graph_is_opened_instead(
    tensorrt: type[TensorrtSession], bundle: Path, made_for_tensorrt: Manifest
):
    for graph in graphs_on_tensorrt(made_for_tensorrt):
        folder = build_engine(bundle, graph, context=True)
        assert folder.parent == bundle.parent / "walker.engines"
        open_session(bundle / graph.file, "tensorrt", 1, graph)
    names = ["language_model.onnx", "language_model_ctx.onnx", "motion_decoder.onnx", "motion_decoder_ctx.onnx"]
    assert [name for name, _ in tensorrt.opened] == names
    assert tensorrt.built == names[::2]


def test_a_graph_without_profiles_is_refused(tensorrt: type[TensorrtSession], tiny_bundle: Path, manifest: Manifest):
    graph = manifest.motion_decoder
    with pytest.raises(BundleError, match=r"motion_decoder\.onnx: has no profiles for TensorRT; export it again"):
        open_session(tiny_bundle / graph.file, "tensorrt", 1, graph)
    with pytest.raises(BundleError, match=r"language_model\.onnx: has no profiles for TensorRT"):
        most_rows(manifest)
    assert not tensorrt.opened


def test_a_session_that_fell_back_is_an_error(
    tensorrt: type[TensorrtSession], bundle: Path, made_for_tensorrt: Manifest, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tensorrt, "get_providers", lambda _: ["CPUExecutionProvider"])
    with pytest.raises(ProviderError, match="TensorrtExecutionProvider does not load, ONNX Runtime fell back to CPU"):
        open_session(bundle / "motion_decoder.onnx", "tensorrt", 1, made_for_tensorrt.motion_decoder)


def test_more_streams_than_engines_have_rows_are_refused_before_any_is_built(
    tensorrt: type[TensorrtSession], bundle: Path, made_for_tensorrt: Manifest
):
    assert most_rows(made_for_tensorrt) == 16
    expected = r"walker: --max-streams \(max_rows\) must be at most 16 on tensorrt.*, got 17; ask for 16 or fewer"
    with pytest.raises(ProviderError, match=expected):
        open_model(ServeConfig(bundle=bundle, provider="tensorrt", max_streams=17))
    assert not tensorrt.opened


@pytest.mark.parametrize("parity_builds", [False, True])
def test_export_builds_both_engines_once_and_shows_how_far_it_is(
    tensorrt: type[TensorrtSession],
    bundle: Path,
    made_for_tensorrt: Manifest,
    tiny_checkpoint: Path,
    parity_builds: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    def copy(_decoder: object, _precision: str, built: Path, *_: object) -> MotionDecoderGraph:
        shutil.copy(bundle / made_for_tensorrt.motion_decoder.file, built)
        return made_for_tensorrt.motion_decoder

    def check(_source: object, built: Path, manifest: Manifest, *_: object) -> Parity | None:
        for graph in graphs_on_tensorrt(manifest) if parity_builds else ():
            open_session(built / graph.file, "tensorrt", 1, graph)
        return made_for_tensorrt.parity

    monkeypatch.setattr(bundle_writer, "write_motion_decoder_graph", copy)
    monkeypatch.setattr(bundle_writer, "_check", check)
    config = ExportConfig(provider="tensorrt", check_on="cpu", build_engines=True, parity_tokens=20)
    exported = export_bundle(tiny_checkpoint, bundle.parent / "exported", config)
    assert tensorrt.built == ["language_model.onnx", "motion_decoder.onnx"]
    assert most_rows(exported) == 16
    folders = [path for path in (bundle.parent / "exported.engines").iterdir() if path.is_dir()]
    assert sorted(path.name.split("-")[0] for path in folders) == ["language_model", "motion_decoder"]
    (bar,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("engines")]
    assert "2/2" in bar
