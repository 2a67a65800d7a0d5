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
    """Replace large float32 weights of a graph by float16 ones and a cast, but not its tables of sines.

    Of a table what is looked up is cast, so that a session does not unfold it.
    """
    graph = model.graph
    kept, stored = list[onnx.TensorProto](), dict[str, str]()
    for tensor in graph.initializer:
        large = tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims) >= LARGE
        if large and tensor.name not in _TABLES:
            stored[tensor.name] = f"{tensor.name}.float16"
            values = numpy_helper.to_array(tensor).astype(np.float16)
            kept.append(numpy_helper.from_array(values, stored[tensor.name]))
        else:
            kept.append(tensor)
    others = list[onnx.NodeProto]()
    for node in graph.node:
        others.append(node)
        if node.op_type == "Gather" and node.input[0] in stored:
            found = node.output[0]
            node.input[0], node.output[0] = stored[node.input[0]], f"{found}.float16"
            others.append(_cast(node.output[0], found))
    used = {name for node in others for name in node.input}
    casts = [_cast(there, name) for name, there in stored.items() if name in used]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend([*casts, *others])


def _cast(stored: str, name: str) -> onnx.NodeProto:
    return helper.make_node("Cast", [stored], [name], f"{name}.cast", to=TensorProto.FLOAT)
