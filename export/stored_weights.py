"""Weights in float16 in the file, with a cast behind them that a session unfolds as it loads: half the download, and
computation in float32 as before.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LARGE = 4096
"""Elements of a weight from which it is stored in float16; small ones, such as norms, stay as they are."""
_TABLES = ("cos_cache", "sin_cache")


def store_weights_as_float16(model: onnx.ModelProto) -> None:
    """Replace large float32 weights of a graph by float16 ones and a cast, but not its tables of sines."""
    graph = model.graph
    casts, kept = [], []
    for tensor in graph.initializer:
        large = tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims) >= LARGE
        if large and tensor.name not in _TABLES:
            stored = f"{tensor.name}.float16"
            kept.append(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), stored))
            casts.append(helper.make_node("Cast", [stored], [tensor.name], f"{tensor.name}.cast", to=TensorProto.FLOAT))
        else:
            kept.append(tensor)
    nodes = [*casts, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
