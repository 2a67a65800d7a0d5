"""The tiny model in each precision; its motion decoder is that of the tiny bundle, since it takes longest to write."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from bridge.engine import PARTS, Engine
from bridge.stream import MotionModel
from export import graph_file
from export.bundle_writer import export_bundle
from export.config import CachePrecision, ExportConfig, Precision, Provider
from export.quantized_graph import quantize_graph
from export.quantized_weights import BLOCK_SIZES, Scheme
from python_core.contract.bundle import open_bundle
from python_core.contract.vocabulary import Position

CONFIG = ExportConfig(parity_tokens=100, calibration_tokens=400)

pytestmark = pytest.mark.usefixtures("decoder_of_the_tiny_bundle")


@pytest.mark.parametrize(("precision", "share_of_fp32"), [("fp16", 0.6), ("int8", 0.45), ("int4", 0.4)])
def test_the_bundle_is_smaller_agrees_with_torch_and_answers(
    precision: Precision, share_of_fp32: float, tiny_checkpoint: Path, tiny_bundle: Path, tmp_path: Path
):
    manifest = export_bundle(tiny_checkpoint, tmp_path / "b", replace(CONFIG, precision=precision))
    assert open_bundle(tmp_path / "b").manifest == manifest
    sizes = [(folder / "language_model.onnx").stat().st_size for folder in (tmp_path / "b", tiny_bundle)]
    assert sizes[0] < share_of_fp32 * sizes[1]
    assert manifest.language_model.precision == precision
    assert manifest.parity is not None
    measured = manifest.parity.language_model
    assert measured.max_logit_difference_tolerance is None
    assert 1 >= measured.argmax_agreement >= measured.min_argmax_agreement
    assert 0 < measured.mean_kl <= measured.max_mean_kl
    MotionModel(tmp_path / "b", "cpu").warm_up()
    assert manifest.depth_head is not None
    assert manifest.depth_head.precision == ("fp16" if precision == "fp16" else "int8")
    ops = Counter(node.op_type for node in onnx.load(tmp_path / "b" / "language_model.onnx").graph.node)
    if precision in ("int8", "int4"):
        # 2 layers of 5 matrices, and the head's parts; no matrix and no embedding stays as it was. A product adds up
        # positions.
        by_rows, by_blocks = (10, 2) if precision == "int8" else (0, 12)
        assert (ops["MatMulIntegerToFloat"], ops["MatMulNBits"]) == (by_rows, by_blocks)
        assert (ops["GatherBlockQuantized"], ops["MatMul"], ops["Transpose"]) == (1, 1, 0)
        assert f"{7 if precision == 'int8' else 4} bits" in manifest.language_model.weights
        assert manifest.language_model.weights.endswith("keys and values: 8 bits, a scale for each channel")


@pytest.mark.parametrize(
    ("precision", "cache_precision", "kept"),
    [("fp16", "int8", onnx.TensorProto.INT8), ("int8", "full", onnx.TensorProto.FLOAT)],
)
def test_keys_and_values_are_kept_as_asked(
    precision: Precision, cache_precision: CachePrecision, kept: int, tiny_checkpoint: Path, tmp_path: Path
):
    config = replace(CONFIG, precision=precision, cache_precision=cache_precision)
    manifest = export_bundle(tiny_checkpoint, tmp_path / "b", config)
    graph = onnx.load(tmp_path / "b" / "language_model.onnx").graph
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in (*graph.input, *graph.output)
        if value.name.startswith(("past_key_values.", "present."))
    }
    assert len(types) == 4 * manifest.language_model.num_layers
    assert set(types.values()) == {kept}
    assert ("keys and values" in manifest.language_model.weights) == (cache_precision == "int8")


@pytest.mark.parametrize(
    ("provider", "precision"), [("cuda", "fp16"), ("cuda", "int8"), ("cuda", "int4"), ("tensorrt", "fp32")]
)
def test_graphs_for_gpus_are_checked_on_the_cpu_where_there_is_none(
    provider: Provider, precision: Precision, tiny_checkpoint: Path, tmp_path: Path
):
    config = replace(CONFIG, provider=provider, precision=precision, check_on="cpu")
    manifest = export_bundle(tiny_checkpoint, tmp_path / "b", config)
    assert (manifest.provider, manifest.language_model.precision) == (provider, precision)
    assert manifest.parity is not None
    assert manifest.parity.provider == "CPUExecutionProvider"
    graph = onnx.load(tmp_path / "b" / "language_model.onnx").graph
    inputs = {value.name: value.type.tensor_type.elem_type for value in graph.input}
    caches = [f"past_key_values.{layer}.{kind}" for layer in range(2) for kind in ("key", "value")]
    assert set(inputs) == {"input_ids", "attention_mask", *caches}
    domains = {node.domain for node in graph.node}
    if provider == "cuda":
        assert inputs["past_key_values.0.key"] == onnx.TensorProto.FLOAT16
        assert "com.microsoft" in domains
        # CUDA has no kernel for rows in 8 bits.
        graphs = [onnx.load(tmp_path / "b" / name).graph for name in ("language_model.onnx", "depth_head.onnx")]
        assert "MatMulIntegerToFloat" not in {node.op_type for graph in graphs for node in graph.node}
    else:
        assert domains <= {"", "ai.onnx"}
        assert {profile.input for profile in manifest.language_model.profiles} == set(inputs)


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_a_row_has_the_same_bits_alone_and_among_others(precision: Precision, tiny_checkpoint: Path, tmp_path: Path):
    manifest = export_bundle(tiny_checkpoint, tmp_path / "b", replace(CONFIG, precision=precision))
    session = ort.InferenceSession(tmp_path / "b" / "language_model.onnx", providers=["CPUExecutionProvider"])
    graph = manifest.language_model
    depth_head = ort.InferenceSession(tmp_path / "b" / "depth_head.onnx", providers=["CPUExecutionProvider"])
    layout, random = manifest.tokens, np.random.default_rng(1)
    positions = random.integers(layout.first_code, size=(5, 12, layout.num_levels))
    positions[random.random(positions.shape) < 0.5] = -1
    given = np.full((5, layout.num_levels), -1)
    given[:, 0] = random.integers(layout.level_size, size=5)
    chances = random.random((5, layout.num_levels - 1))

    def read(rows: slice) -> list[np.ndarray]:
        fed = positions[rows]
        empty = np.zeros((len(fed), graph.num_kv_heads, 0, graph.head_dim), np.int8)
        inputs = {value.name: empty for value in session.get_inputs()}
        inputs |= {"input_ids": fed, "attention_mask": np.ones(fed.shape[:2], np.int64)}
        inputs |= dict.fromkeys(PARTS, np.arange(len(fed)))
        found = [np.asarray(one) for one in session.run([*PARTS.values(), "states"], inputs)]
        inputs = {"states": found[-1][:, 0], "given": given[rows], "chances": chances[rows]}
        inputs["temperatures"] = np.ones((len(fed), 1), np.float32)
        return [*found, *(np.asarray(one) for one in depth_head.run(["entries", "logits"], inputs))]

    together = read(slice(None))
    for row in range(5):
        for alone, of_all in zip(read(slice(row, row + 1)), together, strict=True):
            assert np.array_equal(alone[0], of_all[row])
    watched = [tuple(position) for position in positions[0].tolist()]
    neighbours = [
        [tuple(position) for position in row.tolist()][: 2 + number % 9]
        for number, row in enumerate(random.integers(layout.first_code, size=(40, 12, layout.num_levels)))
    ]
    alone = written(Engine(tmp_path / "b", graph, "cpu", num_threads=1), watched, [])
    for num_threads in (1, 2):
        among = written(Engine(tmp_path / "b", graph, "cpu", num_threads=num_threads), watched, neighbours)
        assert np.array_equal(among, alone)


@pytest.mark.parametrize(("bits", "size"), [(bits, size) for bits, sizes in BLOCK_SIZES.items() for size in sizes])
def test_a_product_of_blocks_has_the_same_bits_for_any_number_of_rows(bits: int, size: int):
    # Kernels for several blocks side by side are used for wide matrices only.
    random, width = np.random.default_rng(1), 576
    weights = random.standard_normal((width, 96)).astype(np.float32)
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", None]) for name in "xy"]
    graph = onnx.helper.make_graph(
        [node], "product", values[:1], values[1:], [onnx.numpy_helper.from_array(weights, "w")]
    )
    opset = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=9)
    scheme = Scheme(bits=bits, block_size=size, compensated=False)
    quantize_graph(model, {"w": scheme}, scheme, {})
    assert model.graph.node[0].op_type == "MatMulNBits"
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = random.standard_normal((64, width)).astype(np.float32)
    (whole,) = session.run(None, {"x": x})
    for num_rows in (1, 2, 3, 7, 16, 33):
        assert np.array_equal(np.asarray(session.run(None, {"x": x[:num_rows]})[0]), np.asarray(whole)[:num_rows])


def written(engine: Engine, fed: list[Position], neighbours: list[list[Position]]) -> np.ndarray:
    """Logits and states of a row that is given its positions one by one, while others go on."""
    others = [engine.join([positions]) for positions in neighbours]
    row, found = engine.join([fed[:4]]), []
    while len(found) <= len(fed) - 4:
        step = engine.step()
        assert not step.failed
        for one, logits, state in zip(step.rows, step.logits, step.states, strict=True):
            if one is not row:
                one.feed([fed[0]])
                continue
            found.append(np.concatenate([logits, state]))
            if len(found) <= len(fed) - 4:
                row.feed([fed[3 + len(found)]])
    assert engine.num_rows == len(others) + 1
    return np.stack(found)


def test_large_weights_are_split_over_files_and_none_of_an_old_bundle_is_left(
    tiny_checkpoint: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as small:
        small.setattr(graph_file, "MAX_FILE_BYTES", 150_000)
        manifest = export_bundle(tiny_checkpoint, tmp_path, CONFIG)
    parts = sorted(name for name in manifest.files if name.endswith(".bin"))
    assert parts == [f"language_model.{number}.bin" for number in range(len(parts))]
    assert len(parts) >= 3
    embedding_bytes = manifest.tokens.vocabulary_size * 64 * 4
    assert all((tmp_path / name).stat().st_size <= max(150_000, embedding_bytes) for name in parts)
    MotionModel(tmp_path, "cpu").warm_up()
    export_bundle(tiny_checkpoint, tmp_path, CONFIG)
    assert not list(tmp_path.glob("*.bin"))
    MotionModel(tmp_path, "cpu").warm_up()
