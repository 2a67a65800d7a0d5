"""A head in parts, each for rows of its own."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.folded_graph import speak_in_parts
from export.graph_nodes import ROW_IDS
from export.quantized_graph import matrices, quantize_graph
from export.quantized_weights import Scheme

WIDTH, TOKENS, SPOKEN, FIRST_MOTION, ROWS = 64, 50, 41, 30, 5


def build(tied: bool, quantized: bool) -> onnx.ModelProto:
    """A lookup and a head, of one matrix or two."""
    random = np.random.default_rng(0)
    weights = {"head": random.normal(size=(WIDTH, TOKENS)).astype(np.float32)}
    ids = f"ids.{ROW_IDS}"
    nodes = [helper.make_node("Identity", ["ids"], [ids])]
    if tied:
        nodes.append(helper.make_node("Transpose", ["head"], ["table"], perm=[1, 0]))
    else:
        weights["table"] = random.normal(size=(TOKENS, WIDTH)).astype(np.float32)
    nodes += [
        helper.make_node("Gather", ["table", ids], ["looked_up"]),
        helper.make_node("Unsqueeze", ["looked_up", "one"], ["states"]),
        helper.make_node("MatMul", ["states", "head"], ["logits"], "head"),
    ]
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["B"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", 1, TOKENS])],
        [numpy_helper.from_array(array, name) for name, array in (weights | {"one": np.array([1])}).items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    if quantized:
        scheme = Scheme(bits=8, block_size=64, compensated=False)
        quantize_graph(model, dict.fromkeys(matrices(model.graph), scheme), scheme, {})
    return model


def run(model: onnx.ModelProto, **inputs: NDArray[np.int64]) -> list[NDArray[np.float32]]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.asarray(found) for found in session.run(None, inputs)]


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_each_part_says_what_the_head_says_of_its_rows_to_the_last_bit_whichever_they_are(tied: bool, quantized: bool):
    model, ids = build(tied, quantized), np.array([7, 3, 48, 0, 21])
    (expected,) = run(model, ids=ids)
    speak_in_parts(model.graph, FIRST_MOTION, SPOKEN)
    everything = np.arange(ROWS)
    words, motion = run(model, ids=ids, word_rows=everything, motion_rows=everything)
    # What a column adds up in which order depends on where the matrix ends.
    assert words == pytest.approx(expected[..., :FIRST_MOTION], rel=1e-4, abs=1e-4)
    assert motion == pytest.approx(expected[..., FIRST_MOTION:SPOKEN], rel=1e-4, abs=1e-4)
    for of_words, of_motion in (([0, 3], [1, 2, 4]), ([2], []), ([], [4]), ([], [])):
        rows = {"word_rows": np.array(of_words, np.int64), "motion_rows": np.array(of_motion, np.int64)}
        spoken = run(model, ids=ids, **rows)
        assert np.array_equal(spoken[0], words[of_words])
        assert np.array_equal(spoken[1], motion[of_motion])


@pytest.mark.parametrize("quantized", [False, True])
def test_a_head_that_is_the_embedding_is_stored_once_as_the_rows_that_are_looked_up(quantized: bool):
    model = build(tied=True, quantized=quantized)
    speak_in_parts(model.graph, FIRST_MOTION, SPOKEN)
    (rows,) = (tensor for tensor in model.graph.initializer if [*tensor.dims] == [TOKENS, WIDTH])
    (lookup,) = (
        node
        for node in model.graph.node
        if node.op_type in ("Gather", "GatherBlockQuantized") and node.output[0] == "looked_up"
    )
    assert lookup.input[0] == rows.name
    assert sum(len(tensor.raw_data) for tensor in model.graph.initializer) < 1.2 * len(rows.raw_data)


def test_a_head_of_its_own_keeps_the_weights_of_what_it_speaks_only():
    model = build(tied=False, quantized=False)
    speak_in_parts(model.graph, FIRST_MOTION, SPOKEN)
    shapes = sorted(tuple(tensor.dims) for tensor in model.graph.initializer if len(tensor.dims) == 2)
    assert shapes == sorted([(WIDTH, FIRST_MOTION), (WIDTH, SPOKEN - FIRST_MOTION), (TOKENS, WIDTH)])
