"""Rows in 8 bits times weights that have a scale for each output."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.graph_nodes import ROW_IDS
from export.quantized_graph import PER_OUTPUT, matrices, quantize_graph
from export.quantized_weights import Scheme

INPUTS, OUTPUTS, ROWS = 192, 80, 64
BLOCKS = Scheme(bits=8, block_size=64, compensated=False)


@pytest.fixture(scope="module")
def weights() -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(0)
    # Outputs of very different sizes, as layers have them.
    sizes = 10 ** random.uniform(-2, 1, OUTPUTS)
    return {name: (random.normal(size=(INPUTS, OUTPUTS)) * sizes).astype(np.float32) for name in ("gate", "up")} | {
        "table": random.normal(size=(7, INPUTS)).astype(np.float32)
    }


@pytest.fixture(scope="module")
def quantized(weights: dict[str, NDArray[np.float32]]) -> onnx.ModelProto:
    """gate(x) and up(x), and a table, since every graph has one."""
    ids = f"ids.{ROW_IDS}"
    graph = helper.make_graph(
        [
            helper.make_node("Identity", ["ids"], [ids]),
            helper.make_node("Gather", ["table", ids], ["looked_up"]),
            helper.make_node("MatMul", ["x", "gate"], ["gated"]),
            helper.make_node("MatMul", ["x", "up"], ["upped"]),
        ],
        "two_matrices",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", "P", INPUTS]),
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["N"]),
        ],
        [
            helper.make_tensor_value_info("gated", TensorProto.FLOAT, ["B", "P", OUTPUTS]),
            helper.make_tensor_value_info("upped", TensorProto.FLOAT, ["B", "P", OUTPUTS]),
            helper.make_tensor_value_info("looked_up", TensorProto.FLOAT, ["N", INPUTS]),
        ],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    quantize_graph(model, dict.fromkeys(matrices(model.graph), PER_OUTPUT), BLOCKS, {})
    return model


def multiply(model: onnx.ModelProto, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["gated"], {"x": rows, "ids": np.zeros(1, np.int64)})[0])


def test_products_are_near_those_in_float32_for_small_and_for_large_outputs(
    quantized: onnx.ModelProto, weights: dict[str, NDArray[np.float32]]
):
    rows = np.random.default_rng(1).normal(size=(ROWS, 1, INPUTS)).astype(np.float32)
    expected = rows @ weights["gate"]
    errors = (multiply(quantized, rows) - expected).std(axis=(0, 1)) / expected.std(axis=(0, 1))
    # Rounding to a 64th and a 127th of the largest of 192 normal numbers, 2.7 deviations: 1.2 and 0.6 %.
    assert errors.mean() == pytest.approx(0.0135, rel=0.2)
    assert errors.max() < 0.03


def test_a_row_has_the_same_bits_alone_and_beside_one_a_million_times_as_large(quantized: onnx.ModelProto):
    rows = np.random.default_rng(2).normal(size=(ROWS, 1, INPUTS)).astype(np.float32)
    rows[3] *= 1e6
    together = multiply(quantized, rows)
    for row in (0, 3, 63):
        assert np.array_equal(multiply(quantized, rows[row : row + 1])[0], together[row])
    # As positions of one prompt as well.
    assert np.array_equal(multiply(quantized, rows.swapaxes(0, 1))[0], together[:, 0])


def test_a_row_of_zeros_gives_zeros(quantized: onnx.ModelProto):
    rows = np.zeros((2, 1, INPUTS), np.float32)
    rows[1] = 1
    found = multiply(quantized, rows)
    assert not found[0].any()
    assert found[1].any()


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_no_numbers_spoils_no_other(quantized: onnx.ModelProto, broken: float):
    """Its own numbers are hidden by integers, as MatMulNBits hides them; export refuses weights that are none."""
    rows = np.random.default_rng(3).normal(size=(3, 1, INPUTS)).astype(np.float32)
    sound = multiply(quantized, rows)
    rows[1, 0, 5] = broken
    found = multiply(quantized, rows)
    assert np.array_equal(found[[0, 2]], sound[[0, 2]])


def test_no_sum_of_two_products_overflows_16_bits(quantized: onnx.ModelProto):
    integers = [
        numpy_helper.to_array(tensor).astype(int) for tensor in quantized.graph.initializer if tensor.data_type == 3
    ]
    assert [array.shape for array in integers] == [(INPUTS, OUTPUTS)] * 2
    assert all(255 * (array[0::2] + array[1::2]).max() < 2**15 for array in integers)
    assert all(255 * (array[0::2] + array[1::2]).min() >= -(2**15) for array in integers)


def test_what_two_matrices_read_is_quantized_once(quantized: onnx.ModelProto):
    ops = [node.op_type for node in quantized.graph.node]
    assert (ops.count("QuantizeLinear"), ops.count("MatMulIntegerToFloat"), ops.count("MatMul")) == (1, 2, 0)
