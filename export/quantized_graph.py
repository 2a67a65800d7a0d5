"""A graph's matrices in few bits, and the table that it looks up as GatherBlockQuantized.

Inputs are quantized as well, each row of them by itself: a row's numbers do not depend on its neighbours in the batch,
as they would with one scale for all. There are two ways:

- blocks of weights that share a scale, in MatMulNBits: least to read, so best for one stream;
- a scale for each output, in MatMulIntegerToFloat with 8-bit integers on both sides: most products a second, so best
  for many streams and for prompts. Weights keep to 7 bits, because processors without VNNI add two products in 16.

A table is stored as its rows are looked up: where a session maps the file into memory, only rows that are asked for are
read.
"""

from collections.abc import Mapping

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor

from export.graph_nodes import ROW_IDS, GraphNodes
from export.quantized_weights import Quantized, Scheme, quantize

DOMAIN = "com.microsoft"
INT8_ACTIVATIONS = 4
"""Accuracy level of MatMulNBits at which it quantizes its inputs to 8 bits."""
PER_OUTPUT = Scheme(bits=7, block_size=None, compensated=False)
"""How weights are written that have a scale for each output; larger integers might overflow (255 * 64 * 2 < 2**15)."""
ZERO_POINT, HALF_RANGE = 128, 127
"""Of inputs in 8 bits."""
LEAST_INPUT = 1e-12
"""Stands for the largest input of a row of zeros."""


def matrices(graph: onnx.GraphProto) -> dict[str, str]:
    """Name of each MatMul's weights -> name of its inputs, as they are computed; the head is last."""
    weights = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 2}
    return {
        node.input[1]: node.input[0] for node in graph.node if node.op_type == "MatMul" and node.input[1] in weights
    }


def quantize_graph(
    model: onnx.ModelProto, schemes: Mapping[str, Scheme], table_scheme: Scheme, grams: Mapping[str, Tensor]
) -> None:
    """Replace the matrices and the embedding of a language model, or those of a depth head.

    Args:
        model: In float32 or float16, with a scale for each output in float32; changed in place.
        schemes: How to write each of `matrices`.
        table_scheme: How to write the embedding, in blocks. Where it is the head's matrix, it stays one with it, and
            must be the head's scheme.
        grams: Of the inputs of each matrix, as `quantization.sum_products` sums them; a matrix without one is rounded
            as it is.
    """
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    quantized = {
        name: quantize(matrix_of(weights[name]).T, grams.get(name), scheme) for name, scheme in schemes.items()
    }
    head = list(matrices(graph))[-1]
    lookups = [node for node in graph.node if node.op_type == "Gather" and node.input[1].endswith(ROW_IDS)]
    looked_up = [node.input[0] for node in lookups]
    transpose = next((node for node in graph.node if node.output[0] in looked_up and node.input[0] == head), None)
    assert transpose is None or schemes[head] == table_scheme, "one matrix is written in one way"
    tables = looked_up if transpose is None else [head]
    # What is looked up is not multiplied: all its numbers count alike.
    quantized |= {name: quantize(matrix_of(weights[name]), None, table_scheme) for name in looked_up if name in weights}
    rows_in_8_bits, nodes = RowsIn8Bits(), list[onnx.NodeProto]()
    for node in graph.node:
        if node is transpose:
            nodes.append(helper.make_node("Reshape", [_rows(head), f"{head}.shape"], [_integers(head)], node.name))
        elif node in lookups:
            table = node.input[0] if transpose is None else head
            nodes.append(
                helper.make_node(
                    "GatherBlockQuantized",
                    [_rows(table), node.input[1], _scales(table)],
                    node.output,
                    node.name,
                    domain=DOMAIN,
                    bits=table_scheme.bits,
                    block_size=table_scheme.block_size,
                    gather_axis=0,
                    quantize_axis=1,
                )
            )
        elif node.op_type == "MatMul" and node.input[1] in schemes:
            scheme = schemes[node.input[1]]
            if scheme.block_size is None:
                nodes += rows_in_8_bits.product(node)
            else:
                nodes.append(product_of_blocks(node, weights[node.input[1]], scheme))
        else:
            nodes.append(node)
    kept = [tensor for tensor in graph.initializer if tensor.name not in quantized]
    kept += rows_in_8_bits.constants()
    for name, found in quantized.items():
        scheme = schemes.get(name, table_scheme)
        if scheme.block_size is None:
            kept += output_weights(name, found)
        else:
            integers, scales = block_weights(name, found, scheme.bits, weights[name].data_type)
            if name in tables:
                if name == head:
                    kept.append(numpy_helper.from_array(np.array(integers.dims), f"{head}.shape"))
                rows = numpy_helper.to_array(integers).reshape(integers.dims[0], -1)
                integers = numpy_helper.from_array(rows, _rows(name))
            kept += [integers, scales]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)


class RowsIn8Bits:
    """Writes products of rows in 8 bits, each with a scale of its own, with weights that have a scale for each output.

    What is multiplied with several matrices is quantized once. There must be a row: `ReduceMax` of none has another
    shape.
    """

    def __init__(self) -> None:
        self._nodes = GraphNodes("rows_in_8_bits")
        self._last, self._least = self._nodes.constant([-1]), self._nodes.constant(LEAST_INPUT)
        self._step = self._nodes.constant(1 / HALF_RANGE)
        self._zero = self._nodes.weights(np.array(ZERO_POINT, np.uint8), "zero_point")
        self._quantized: dict[str, tuple[str, str]] = {}

    def product(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """What stands for a MatMul of inputs [..., K] and `output_weights`, in order; its output is [..., N]."""
        nodes, before = self._nodes, len(self._nodes.nodes)
        inputs, name = node.input
        if inputs not in self._quantized:
            largest = nodes.node("ReduceMax", nodes.node("Abs", inputs), self._last, keepdims=1)
            largest = nodes.node("Max", largest, self._least)
            shares = nodes.node("Div", inputs, largest)
            self._quantized[inputs] = nodes.node("QuantizeLinear", shares, self._step, self._zero), largest
        integers, largest = self._quantized[inputs]
        product = nodes.node(
            "MatMulIntegerToFloat",
            integers,
            _integers(name),
            self._step,
            _scales(name),
            self._zero,
            domain=DOMAIN,
        )
        nodes.node("Mul", product, largest, output=node.output[0])
        return nodes.nodes[before:]

    def constants(self) -> list[onnx.TensorProto]:
        """What the products need besides their weights."""
        return self._nodes.initializers if self._quantized else []


def product_of_blocks(node: onnx.NodeProto, weights: onnx.TensorProto, scheme: Scheme) -> onnx.NodeProto:
    """What stands for a MatMul whose weights are written in blocks."""
    num_inputs, num_outputs = weights.dims
    return helper.make_node(
        "MatMulNBits",
        [node.input[0], _integers(weights.name), _scales(weights.name)],
        node.output,
        node.name,
        domain=DOMAIN,
        K=num_inputs,
        N=num_outputs,
        bits=scheme.bits,
        block_size=scheme.block_size,
        accuracy_level=INT8_ACTIVATIONS,
    )


def block_weights(name: str, quantized: Quantized, bits: int, data_type: int) -> list[onnx.TensorProto]:
    """Integers and scales that stand for the weights of that name, the scales in their type."""
    scales = quantized.scales.numpy().astype(helper.tensor_dtype_to_np_dtype(data_type))
    return [
        numpy_helper.from_array(quantized.packed(bits), _integers(name)),
        numpy_helper.from_array(scales, _scales(name)),
    ]


def output_weights(name: str, quantized: Quantized) -> list[onnx.TensorProto]:
    """Integers, [K, N], and scales, [N], that stand for the weights of that name."""
    return [
        numpy_helper.from_array(
            np.ascontiguousarray(quantized.integers[:, 0].T.to(torch.int8).numpy()), _integers(name)
        ),
        numpy_helper.from_array(quantized.scales[:, 0].numpy().astype(np.float32), _scales(name)),
    ]


def matrix_of(tensor: onnx.TensorProto) -> Tensor:
    """Weights as numbers, in float32."""
    return torch.from_numpy(numpy_helper.to_array(tensor).astype(np.float32))


def _integers(name: str) -> str:
    return f"{name}.integers"


def _rows(name: str) -> str:
    return f"{name}.rows"


def _scales(name: str) -> str:
    return f"{name}.scales"
