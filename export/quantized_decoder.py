"""The motion decoder's products in 8 bits: weights in blocks that share a scale, inputs row by row (MatMulNBits).

One code of one stream waits for weights to come from memory, and this is a quarter of them. A row's numbers do not
depend on its neighbours in the batch, nor, in blocks of `BLOCK_SIZES`, on how many there are. Scales of inputs that are
fixed beforehand (static QDQ) do not either, and are faster for many codes at once, but move the joints of a trained
tokenizer by 2 cm.
"""

import onnx
from onnx import helper

from export.quantized_graph import DOMAIN, block_weights, matrices, matrix_of, product_of_blocks
from export.quantized_weights import BLOCK_SIZES, Scheme, quantize

SCHEME = Scheme(bits=8, block_size=BLOCK_SIZES[8][0], compensated=False)
MIN_INPUTS = 32
"""The pose solver multiplies by smaller matrices, and its angles need more than 8 bits."""


def quantize_decoder(model: onnx.ModelProto) -> None:
    """Quantize the decoder's products with matrices of weights but the last; all else stays in float32.

    Args:
        model: In float32; changed in place.
    """
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    # The last one writes features: the root's steps are among them, and their errors add up.
    *names, _ = (name for name in matrices(graph) if weights[name].dims[0] >= MIN_INPUTS)
    nodes = [
        product_of_blocks(node, weights[node.input[1]], SCHEME)
        if node.op_type == "MatMul" and node.input[1] in names
        else node
        for node in graph.node
    ]
    kept = [tensor for tensor in graph.initializer if tensor.name not in names]
    for name in names:
        found = quantize(matrix_of(weights[name]).T, None, SCHEME)
        kept += block_weights(name, found, SCHEME.bits, weights[name].data_type)
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
