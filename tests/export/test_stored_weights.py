"""Weights in float16 in the file, computed with in float32."""

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from export.stored_weights import LARGE, store_weights_as_float16

ROWS, WIDTH = LARGE // 32, 64


def test_a_table_is_stored_in_half_and_only_what_is_looked_up_is_cast_with_the_same_bits():
    random = np.random.default_rng(0)
    table, matrix = (random.normal(size=shape).astype(np.float32) for shape in ((ROWS, WIDTH), (WIDTH, LARGE // WIDTH)))
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Gather", ["table", "ids"], ["found"]),
                helper.make_node("MatMul", ["found", "matrix"], ["product"]),
            ],
            "lookup",
            [helper.make_tensor_value_info("ids", TensorProto.INT64, ["N"])],
            [
                helper.make_tensor_value_info("found", TensorProto.FLOAT, ["N", WIDTH]),
                helper.make_tensor_value_info("product", TensorProto.FLOAT, ["N", LARGE // WIDTH]),
            ],
            [numpy_helper.from_array(table, "table"), numpy_helper.from_array(matrix, "matrix")],
        ),
        opset_imports=[helper.make_opsetid("", 21)],
        ir_version=10,
    )
    ids = np.array([3, 0, ROWS - 1, 3])
    store_weights_as_float16(model)
    onnx.checker.check_model(model, full_check=True)
    assert {tensor.name: tensor.data_type for tensor in model.graph.initializer} == {
        "table.float16": TensorProto.FLOAT16,
        "matrix.float16": TensorProto.FLOAT16,
    }
    casts = [node.input[0] for node in model.graph.node if node.op_type == "Cast"]
    assert casts == ["matrix.float16", "found.float16"]
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found, product = (np.asarray(one) for one in session.run(None, {"ids": ids}))
    assert np.array_equal(found, table.astype(np.float16).astype(np.float32)[ids])
    assert np.allclose(product, found @ matrix.astype(np.float16).astype(np.float32), atol=1e-4)
