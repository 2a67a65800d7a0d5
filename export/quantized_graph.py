"""A graph's matrices as MatMulNBits and the table that it looks up as GatherBlockQuantized.

MatMulNBits quantizes the inputs as well, each row and block of them by itself: a row's numbers do not depend on its
neighbours in the batch, as they would with one scale for all.
"""

from collections.abc import Mapping

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor

from export.graph_nodes import ROW_IDS
from export.quantized_weights import Quantized, Scheme, quantize

DOMAIN = "com.microsoft"
INT8_ACTIVATIONS = 4
"""Accuracy level of MatMulNBits at which it quantizes its inputs to 8 bits."""


def matrices(graph: onnx.GraphProto) -> dict[str, str]:
    """Name of each MatMul's weights -> name of its inputs, as they are computed; the head is last."""
    weights = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 2}
    return {
        node.input[1]: node.input[0] for node in graph.node if node.op_type == "MatMul" and node.input[1] in weights
    }


def quantize_graph(model: onnx.ModelProto, schemes: Mapping[str, Scheme], grams: Mapping[str, Tensor]) -> None:
    """Replace the matrices and the embedding of a language model, or those of a depth head.

    The embedding has the scheme of the head. Where it is the head's matrix, it stays one with it.

    Args:
        model: In float32 or float16; changed in place.
        schemes: How to write each of `matrices`.
        grams: Of the inputs of each matrix, as `quantization.sum_products` sums them; a matrix without one is rounded
            as it is.
    """
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    quantized = {
        name: quantize(matrix_of(weights[name]).T, grams.get(name), scheme) for name, scheme in schemes.items()
    }
    head = list(matrices(graph))[-1]
    scheme = schemes[head]
    lookup = next(node for node in graph.node if node.op_type == "Gather" and node.input[1].endswith(ROW_IDS))
    transpose = next((node for node in graph.node if node.output[0] == lookup.input[0]), None)
    table = head if transpose is not None and transpose.input[0] == head else lookup.input[0]
    if table != head:
        # It is looked up, not multiplied: all its numbers count alike.
        quantized[table] = quantize(matrix_of(weights[table]), None, scheme)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node is transpose and table == head:
            continue
        if node is lookup:
            num_tokens = quantized[table].integers.shape[0]
            rows = f"{table}.rows"
            shape = np.array([num_tokens, -1], np.int64)
            graph.initializer.append(numpy_helper.from_array(shape, f"{rows}.shape"))
            nodes.append(helper.make_node("Reshape", [_integers(table), f"{rows}.shape"], [rows], f"{rows}.reshape"))
            nodes.append(
                helper.make_node(
                    "GatherBlockQuantized",
                    [rows, node.input[1], _scales(table)],
                    node.output,
                    node.name,
                    domain=DOMAIN,
                    bits=scheme.bits,
                    block_size=scheme.block_size,
                    gather_axis=0,
                    quantize_axis=1,
                )
            )
        elif node.op_type == "MatMul" and node.input[1] in schemes:
            nodes.append(product_of_blocks(node, weights[node.input[1]], schemes[node.input[1]]))
        else:
            nodes.append(node)
    kept = [tensor for tensor in graph.initializer if tensor.name not in quantized]
    for name, found in quantized.items():
        bits = schemes.get(name, scheme).bits
        kept += block_weights(name, found, bits, weights[name].data_type)
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)


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


def matrix_of(tensor: onnx.TensorProto) -> Tensor:
    """Weights as numbers, in float32."""
    return torch.from_numpy(numpy_helper.to_array(tensor).astype(np.float32))


def _integers(name: str) -> str:
    return f"{name}.integers"


def _scales(name: str) -> str:
    return f"{name}.scales"
