"""A language model's keys and values in 8 bits, with a scale for each channel of each layer.

A row's cache is a quarter of what it is in float32, and attention over many rows, which waits for their caches to come
from memory, takes less than half the time. Scales are constants, from the largest that calibration has seen, so a row's
numbers do not depend on its neighbours; what is larger is cut.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

LARGEST_INTEGER = 127
ATTENTION = "GroupQueryAttention"
_SCALES_AT = 12
"""Place of the keys' scales among the inputs of the attention; those of values come after them."""
_ATTRIBUTES = {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL", "kv_cache_bit_width": 8}


def kept_values(graph: onnx.GraphProto) -> list[str]:
    """Names of the keys and values that a graph hands out, layer by layer."""
    return [value.name for value in graph.output if value.name.startswith("present.")]


def quantize_cache(model: onnx.ModelProto, largest: Mapping[str, NDArray[np.float32]]) -> None:
    """Let a graph of GroupQueryAttention take and hand out int8.

    Args:
        model: Changed in place.
        largest: Of each channel the largest magnitude, [kv heads, head dim], for each of `kept_values`.
    """
    graph = model.graph
    for node in graph.node:
        if node.op_type != ATTENTION:
            continue
        kept = node.output[1:3]
        node.input.extend([""] * (_SCALES_AT - len(node.input)))
        node.input.extend(f"{name}.scales" for name in kept)
        node.attribute.extend(helper.make_attribute(name, value) for name, value in _ATTRIBUTES.items())
        for name in kept:
            # Of a channel that is always zero, any scale will do.
            scales = np.maximum(largest[name], np.finfo(np.float32).tiny * LARGEST_INTEGER) / LARGEST_INTEGER
            tensor = numpy_helper.from_array(scales[None, :, None].astype(np.float32), f"{name}.scales")
            graph.initializer.append(tensor)
    for value in (*graph.input, *graph.output):
        if value.name.startswith(("past_key_values.", "present.")):
            value.type.tensor_type.elem_type = TensorProto.INT8
