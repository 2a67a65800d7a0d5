"""The depth head as an ONNX graph: states and the entries of a code's first levels -> logits of the next level's."""

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import Tensor, nn

from export.config import BITS
from export.graph_file import write_graph
from export.graph_nodes import GraphNodes
from export.quantized_graph import PER_OUTPUT, matrices, quantize_graph
from export.quantized_weights import Scheme
from export.stored_weights import store_weights_as_float16
from python_core.contract.bundle import DepthHeadGraph
from python_core.depth_head import DepthHead, DepthLayer

FILE = "depth_head.onnx"
OPSET = 18
BLOCK_SIZES = (64, 32, 16)
HEADS = "depth_head.heads."
"""Names begin with it that are of the matrix of a level."""


def write_depth_head(
    head: DepthHead, precision: str, bundle: Path, temperature: float = 1.0, provider: str = "cpu"
) -> DepthHeadGraph:
    """Write `depth_head.onnx`.

    Args:
        head: What is written.
        precision: Of the language model; for int4, too, the depth head has 8 bits, since each of its errors is heard at
            every level.
        bundle: Folder to write into.
        provider: Where it will run; int8 is written for many streams on a CPU.
        temperature: At which it is drawn, times a request's own.

    Raises:
        ValueError: A width is no multiple of the smallest block.
    """
    model, weights = build_depth_head(head), "float32"
    if precision in BITS:
        blocks = Scheme(bits=8, block_size=_block_size(model.graph), compensated=False)
        scheme = PER_OUTPUT if precision == "int8" and provider == "cpu" else blocks
        schemes = dict.fromkeys(matrices(model.graph), scheme)
        # All matrices of levels but one get no row, in which `ReduceMax` would find no largest number.
        schemes |= {name: blocks for name in schemes if name.startswith(HEADS)}
        quantize_graph(model, schemes, blocks, {})
        precision, weights = "int8", f"{scheme}; heads and entries: {blocks}"
    elif precision == "fp16":
        store_weights_as_float16(model)
        weights = "float16, computed in float32"
    write_graph(model, bundle / FILE)
    return DepthHeadGraph(file=FILE, precision=precision, weights=weights, temperature=temperature)


def _block_size(graph: onnx.GraphProto) -> int:
    """The largest that all widths are multiples of."""
    names = matrices(graph)
    widths = {tensor.dims[0] for tensor in graph.initializer if tensor.name in names}
    for size in BLOCK_SIZES:
        if all(width % size == 0 for width in widths):
            return size
    raise ValueError(f"int8 and int4 weights need widths that are multiples of {BLOCK_SIZES[-1]}, got {sorted(widths)}")


def build_depth_head(head: DepthHead) -> onnx.ModelProto:
    """Build the graph in float32, of operators that every provider has.

    A run speaks one level. All of its rows are handed to that level's matrix and none to the others, which cost nothing
    then.
    """
    size, num_spoken = head.codebook.level_size, head.codebook.num_levels - 1
    nodes = GraphNodes("depth_head")
    zero, one, two = (nodes.constant([number]) for number in (0, 1, 2))
    shape = nodes.node("Shape", "entries")
    num_rows, num_given = nodes.node("Slice", shape, zero, one), nodes.node("Slice", shape, one, two)
    starts = nodes.constant([size * level for level in range(num_spoken)])
    row_ids = nodes.node("Add", "entries", nodes.node("Slice", starts, zero, num_given))
    so_far = nodes.sum_of_rows(nodes.weights(_array(head.entries.weight), "entries"), row_ids)
    level = nodes.node("Gather", nodes.weights(_array(head.levels), "levels"), nodes.node("Sub", num_given, one))
    hidden = nodes.node("Add", nodes.node("Squeeze", so_far, one), level)
    hidden = nodes.node("Add", hidden, _product(nodes, "states", head.state.weight, "state"))
    for number, layer in enumerate(head.layers):
        assert isinstance(layer, DepthLayer)
        name = f"layers.{number}"
        normal = _norm(nodes, hidden, layer.norm, f"{name}.norm")
        gate = _product(nodes, normal, layer.gate.weight, f"{name}.gate")
        gate = nodes.node("Mul", gate, nodes.node("Sigmoid", gate))
        inner = nodes.node("Mul", gate, _product(nodes, normal, layer.up.weight, f"{name}.up"))
        hidden = nodes.node("Add", hidden, _product(nodes, inner, layer.down.weight, f"{name}.down"))
    chosen = nodes.node("Equal", num_given, nodes.constant([*range(1, num_spoken + 1)]))
    sizes = nodes.node("Where", chosen, num_rows, zero)
    rows = [f"depth_head.rows.{number}" for number in range(num_spoken)]
    inputs = [_norm(nodes, hidden, head.norm, "norm"), sizes]
    nodes.nodes.append(helper.make_node("Split", inputs, rows, "depth_head/Split", axis=0))
    spoken = [_product(nodes, of, head.heads[number], f"heads.{number}") for number, of in enumerate(rows)]
    nodes.node("Concat", *spoken, axis=0, output="logits")
    graph = helper.make_graph(
        nodes.nodes,
        "depth_head",
        [
            helper.make_tensor_value_info("states", TensorProto.FLOAT, ["B", head.state.in_features]),
            helper.make_tensor_value_info("entries", TensorProto.INT64, ["B", "J"]),
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", size])],
        nodes.initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def _product(nodes: GraphNodes, inputs: str, weights: Tensor, name: str) -> str:
    """Multiply by a layer's weights, [N, K]."""
    return nodes.node("MatMul", inputs, nodes.weights(_array(weights.T), f"{name}.weight"))


def _norm(nodes: GraphNodes, inputs: str, norm: nn.RMSNorm, name: str) -> str:
    """In the nodes of which ONNX Runtime makes one."""
    assert norm.eps is not None
    mean = nodes.node("ReduceMean", nodes.node("Pow", inputs, nodes.constant(2.0)), nodes.constant([-1]), keepdims=1)
    root = nodes.node("Sqrt", nodes.node("Add", mean, nodes.constant(norm.eps)))
    return nodes.node("Mul", nodes.node("Div", inputs, root), nodes.weights(_array(norm.weight), f"{name}.weight"))


def _array(weights: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(weights.detach().float().numpy())
