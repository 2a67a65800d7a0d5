"""The depth head as an ONNX graph: states and the first entries of codes -> the entries of all other levels, drawn."""

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import Tensor, nn

from export.config import BITS
from export.graph_file import write_graph
from export.graph_nodes import ROW_IDS, GraphNodes
from export.quantized_graph import PER_OUTPUT, matrices, quantize_graph
from export.quantized_weights import BLOCK_SIZES, Scheme
from export.stored_weights import store_weights_as_float16
from python_core.contract.bundle import DepthHeadGraph
from python_core.depth_head import DepthHead, DepthLayer

FILE = "depth_head.onnx"
OPSET = 18


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
        quantize_graph(model, dict.fromkeys(matrices(model.graph), scheme), blocks, {})
        precision, weights = "int8", f"{scheme}; entries: {blocks}"
    elif precision == "fp16":
        store_weights_as_float16(model)
        weights = "float16, computed in float32"
    write_graph(model, bundle / FILE)
    return DepthHeadGraph(file=FILE, precision=precision, weights=weights, temperature=temperature)


def _block_size(graph: onnx.GraphProto) -> int:
    """The largest that all widths are multiples of."""
    names = matrices(graph)
    widths = {tensor.dims[0] for tensor in graph.initializer if tensor.name in names}
    for size in BLOCK_SIZES[8]:
        if all(width % size == 0 for width in widths):
            return size
    raise ValueError(
        f"int8 and int4 weights need widths that are multiples of {BLOCK_SIZES[8][-1]}, got {sorted(widths)}"
    )


def build_depth_head(head: DepthHead) -> onnx.ModelProto:
    """Build the graph in float32, of operators that every provider has; `DepthHeadGraph` says what it reads and writes.

    All levels after the first are in it, one after another, and each entry is drawn before the next level is spoken. No
    node works across rows, and probabilities are added up from left to right, so a row keeps its bits among others.
    """
    size, num_spoken = head.codebook.level_size, head.codebook.num_levels - 1
    nodes = GraphNodes("depth_head")
    firsts, *given = _columns(nodes, "given", num_spoken + 1)
    chances = _columns(nodes, "chances", num_spoken)
    so_far, before = _product(nodes, "states", head.state.weight, "state"), firsts
    logits, entries = list[str](), list[str]()
    for level in range(num_spoken):
        table = nodes.weights(_array(head.entries.weight[size * level : size * (level + 1)]), f"entries.{level}")
        row_ids = nodes.node("Squeeze", before, nodes.constant([1]), output=f"depth_head.{level}.{ROW_IDS}")
        so_far = nodes.node("Add", so_far, nodes.node("Gather", table, row_ids, axis=0))
        hidden = nodes.node("Add", so_far, nodes.weights(_array(head.levels[level]), f"levels.{level}"))
        for number, layer in enumerate(head.layers):
            assert isinstance(layer, DepthLayer)
            hidden = _layer(nodes, hidden, layer, f"layers.{number}")
        logits.append(_product(nodes, _norm(nodes, hidden, head.norm, "norm"), head.heads[level], f"heads.{level}"))
        is_given = nodes.node("GreaterOrEqual", given[level], nodes.constant(0))
        before = nodes.node("Where", is_given, given[level], _drawn(nodes, logits[-1], chances[level], size))
        entries.append(before)
    said = nodes.node("Concat", *logits, axis=1)
    nodes.node("Reshape", said, nodes.constant([0, num_spoken, size]), output="logits")
    # A sum is finite if all of it is.
    total = nodes.node("Abs", nodes.node("ReduceSum", said, nodes.constant([1])))
    is_finite = nodes.node("Less", total, nodes.constant(float("inf")))
    nodes.node("Where", is_finite, nodes.node("Concat", *entries, axis=1), nodes.constant(-1), output="entries")
    graph = helper.make_graph(
        nodes.nodes,
        "depth_head",
        [
            helper.make_tensor_value_info("states", TensorProto.FLOAT, ["B", head.state.in_features]),
            helper.make_tensor_value_info("given", TensorProto.INT64, ["B", num_spoken + 1]),
            helper.make_tensor_value_info("chances", TensorProto.DOUBLE, ["B", num_spoken]),
            helper.make_tensor_value_info("temperatures", TensorProto.FLOAT, ["B", 1]),
        ],
        [
            helper.make_tensor_value_info("entries", TensorProto.INT64, ["B", num_spoken]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", num_spoken, size]),
        ],
        nodes.initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def _columns(nodes: GraphNodes, table: str, num: int) -> list[str]:
    """Each column of an input, [B, 1]."""
    names = [f"depth_head.{table}.{number}" for number in range(num)]
    nodes.nodes.append(helper.make_node("Split", [table], names, f"depth_head/Split/{table}", axis=1, num_outputs=num))
    return names


def _layer(nodes: GraphNodes, hidden: str, layer: DepthLayer, name: str) -> str:
    normal = _norm(nodes, hidden, layer.norm, f"{name}.norm")
    gate = _product(nodes, normal, layer.gate.weight, f"{name}.gate")
    gate = nodes.node("Mul", gate, nodes.node("Sigmoid", gate))
    inner = nodes.node("Mul", gate, _product(nodes, normal, layer.up.weight, f"{name}.up"))
    return nodes.node("Add", hidden, _product(nodes, inner, layer.down.weight, f"{name}.down"))


def _drawn(nodes: GraphNodes, logits: str, chances: str, size: int) -> str:
    """The first entries at which probabilities, added up, are more than the chances, [B, size] and [B, 1] -> [B, 1].

    In float64, where the product of a sum and a number below 1 is below the sum, so that there is such an entry. No
    probability may be left out on the way, as top-p would do: to sort them would take longer than all else of a draw.
    """
    probabilities = nodes.node("Softmax", nodes.node("Div", logits, "temperatures"), axis=-1)
    sums = nodes.node("CumSum", nodes.node("Cast", probabilities, to=TensorProto.DOUBLE), nodes.constant(1))
    whole = nodes.node("Gather", sums, nodes.constant([size - 1]), axis=1)
    passed = nodes.node("LessOrEqual", sums, nodes.node("Mul", chances, whole))
    # Counted in float32, which is exact here: sums of integers take several times as long on a CPU.
    num_passed = nodes.node("ReduceSum", nodes.node("Cast", passed, to=TensorProto.FLOAT), nodes.constant([1]))
    return nodes.node("Cast", num_passed, to=TensorProto.INT64)


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
