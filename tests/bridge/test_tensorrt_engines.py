"""The folder of TensorRT's engines; TensorRT itself is not needed: files are written as it would write them."""

from dataclasses import replace
from pathlib import Path

import pytest

from bridge import tensorrt_engines
from bridge.tensorrt_engines import INDEX, EngineFolder, EngineKey, move_engines, options, this_machine
from python_core.contract.bundle import BundleError, ShapeProfile

KEY = EngineKey(
    graph_sha256="ab" * 32, profiles_sha256="cd" * 32, onnxruntime="1.31.1", tensorrt="10.16.1", gpu="NVIDIA L4 8.9"
)
PROFILES = (
    ShapeProfile(input="input_ids", min=(1, 1), opt=(8, 1), max=(16, 512)),
    ShapeProfile(input="past_key_values.0.key", min=(1, 8, 0, 32), opt=(8, 8, 256, 32), max=(16, 8, 512, 32)),
)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    (tmp_path / "walker").mkdir()
    return tmp_path / "walker" / "motion_decoder.onnx"


@pytest.fixture
def built(graph: Path) -> EngineFolder:
    """A folder in which engines were built."""
    folder = EngineFolder(graph, KEY)
    building = folder.open()
    (building / "engine_1.engine").write_bytes(b"native code")
    (building / "engine.timing").write_bytes(b"how long it takes")
    folder.close(building)
    return folder


def test_engines_lie_beside_the_bundle_and_are_opened_again(graph: Path, built: EngineFolder):
    assert built.path.parent == graph.parent.parent / "walker.engines"
    assert built.path.stat().st_mode & 0o777 == 0o700
    assert EngineFolder(graph, KEY).open() == built.path


def test_a_build_that_was_killed_is_begun_again(graph: Path):
    folder = EngineFolder(graph, KEY)
    (folder.open() / "engine_1.engine").write_bytes(b"half of")
    building = EngineFolder(graph, KEY).open()
    assert list(building.iterdir()) == []
    assert not folder.path.exists()
    (building / "engine_1.engine").write_bytes(b"native code")
    folder.close(building)
    assert EngineFolder(graph, KEY).open() == folder.path
    assert {path.name for path in folder.path.iterdir()} == {"engine_1.engine", INDEX}


def test_what_is_built_besides_does_not_touch_what_is_there_until_it_is_complete(graph: Path, built: EngineFolder):
    before = {path.name: path.read_bytes() for path in built.path.iterdir()}
    for is_killed in (True, False):
        building = EngineFolder(graph, KEY).open(more=True)
        (building / "motion_decoder_ctx.onnx").write_bytes(b"an engine as a graph")
        assert {path.name: path.read_bytes() for path in built.path.iterdir()} == before
        if not is_killed:
            built.close(building)
    assert {path.name for path in EngineFolder(graph, KEY).open().iterdir()} == {*before, "motion_decoder_ctx.onnx"}
    assert (built.path / "engine_1.engine").read_bytes() == b"native code"


def test_engines_move_with_their_bundle_and_those_that_are_there_stay(graph: Path, built: EngineFolder, tmp_path: Path):
    target = tmp_path / "served" / "runner"
    target.mkdir(parents=True)
    moved = EngineFolder(target / graph.name, KEY)
    move_engines(graph.parent, target)
    assert moved.open() == moved.path
    assert (moved.path / "engine_1.engine").read_bytes() == b"native code"
    assert not built.path.exists()
    move_engines(target, graph.parent)
    building = moved.open()
    (building / "engine_1.engine").write_bytes(b"other code")
    moved.close(building)
    move_engines(graph.parent, target)
    assert (moved.path / "engine_1.engine").read_bytes() == b"other code"
    move_engines(tmp_path / "nowhere", target)


def test_other_shapes_have_another_key(graph: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tensorrt_engines, "tensorrt_version", lambda: "10.16.1")
    monkeypatch.setattr(tensorrt_engines, "gpu_name", lambda: "NVIDIA L4 8.9")
    graph.write_bytes(b"a graph")
    key = this_machine(graph, PROFILES)
    assert this_machine(graph, PROFILES) == key
    other = this_machine(graph, (replace(PROFILES[0], max=(16, 16)), PROFILES[1]))
    assert replace(other, profiles_sha256=key.profiles_sha256) == key != other


@pytest.mark.parametrize("field", ["graph_sha256", "profiles_sha256", "onnxruntime", "tensorrt", "gpu"])
def test_whatever_an_engine_depends_on_has_a_folder_of_its_own(graph: Path, built: EngineFolder, field: str):
    other = EngineFolder(graph, replace(KEY, **{field: "other"}))
    assert other.path != built.path
    assert list(other.open().iterdir()) == []


def test_a_foreign_file_is_refused(graph: Path, built: EngineFolder):
    (built.path / "engine_2.engine").write_bytes(b"from a stranger")
    with pytest.raises(BundleError, match=r"engine_2\.engine: not written by this bridge; engines are native code"):
        EngineFolder(graph, KEY).open()


def test_a_changed_engine_is_refused(graph: Path, built: EngineFolder):
    (built.path / "engine_1.engine").write_bytes(b"Native code")
    with pytest.raises(BundleError, match=r"engine_1\.engine: SHA-256 is .*, index\.json says"):
        EngineFolder(graph, KEY).open()


def test_engines_of_another_machine_are_refused_in_a_folder_of_our_name(graph: Path, built: EngineFolder):
    other = EngineFolder(graph, replace(KEY, gpu="another"))
    built.path.rename(other.path)
    with pytest.raises(BundleError, match="of another graph or machine"):
        other.open()


def test_a_folder_in_which_others_may_write_is_refused(graph: Path, built: EngineFolder):
    built.path.chmod(0o777)
    with pytest.raises(BundleError, match="others than this user may write there"):
        EngineFolder(graph, KEY).open()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": {}}'])
def test_a_damaged_index_is_refused(graph: Path, built: EngineFolder, content: str):
    (built.path / INDEX).write_text(content)
    with pytest.raises(BundleError, match=r"index\.json: damaged"):
        EngineFolder(graph, KEY).open()


def test_profiles_are_written_as_the_provider_reads_them(built: EngineFolder):
    found = options(built.path, PROFILES, fp16=True, context=False)
    assert found["trt_profile_min_shapes"] == "input_ids:1x1,past_key_values.0.key:1x8x0x32"
    assert found["trt_profile_opt_shapes"] == "input_ids:8x1,past_key_values.0.key:8x8x256x32"
    assert found["trt_profile_max_shapes"] == "input_ids:16x512,past_key_values.0.key:16x8x512x32"
    assert found["trt_fp16_enable"] == found["trt_engine_cache_enable"] == "1"
    assert found["trt_engine_cache_path"] == found["trt_timing_cache_path"] == str(built.path)
    assert "trt_dump_ep_context_model" not in found
    assert options(built.path, PROFILES, fp16=False, context=True)["trt_ep_context_embed_mode"] == "0"
