"""How weights lie in a graph's file: large ones in float16, with a cast behind them that a session unfolds as it loads.

Half the download, and the same float32 computation as torch with the rounded weights.
"""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

LARGE = 4096
"""Elements of a weight from which it is stored in float16; small ones, such as norms, stay as they are."""
_TABLES = ("cos_cache", "sin_cache")


@torch.no_grad()
def round_to_float16(model: nn.Module) -> None:
    """Round a model's large weights as the file will, so that torch and the graph compute with the same ones."""
    for weight in [*model.parameters(), *model.buffers()]:
        if weight.numel() >= LARGE and weight.dtype == torch.float32:
            weight.copy_(weight.half().float())


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


def forget_sources(model: onnx.ModelProto) -> None:
    """Drop what exporters note about the machine and the source files that they ran on."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    model.doc_string = ""
    for node in model.graph.node:
        node.ClearField("doc_string")
        del node.metadata_props[:]
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        del value.metadata_props[:]
