"""Makes a language model's graph read positions and write states, as `motion_model.SpeaksMotion` does."""

import onnx
from onnx import helper, numpy_helper

from export.graph_nodes import GraphNodes


def read_positions(graph: onnx.GraphProto, num_levels: int) -> None:
    """Let a graph read `input_ids` [B, P, levels] where it read tokens [B, L]: it adds up the tokens of a position."""
    place, lookup = next(
        (place, node)
        for place, node in enumerate(graph.node)
        if node.op_type == "Gather" and node.input[1] == "input_ids"
    )
    cache = next(value for value in graph.input if value.name.startswith("past_key_values."))
    nodes = GraphNodes("positions")
    summed = nodes.sum_of_rows(lookup.input[0], "input_ids", cache.type.tensor_type.elem_type)
    nodes.node("Squeeze", summed, nodes.constant([2]), output=lookup.output[0])
    after = [*graph.node][place + 1 :]
    del graph.node[place:]
    graph.node.extend([*nodes.nodes, *after])
    graph.initializer.extend(nodes.initializers)
    input_ids = next(value for value in graph.input if value.name == "input_ids")
    input_ids.type.tensor_type.shape.dim.add().dim_value = num_levels


def write_states(graph: onnx.GraphProto, width: int) -> None:
    """Let a graph write what its head reads, `states` [B, 1, width]."""
    logits = next(value for value in graph.output if value.name == "logits")
    head = next(node for node in graph.node if "logits" in node.output)
    before = next(node for node in graph.node if head.input[0] in node.output)
    before.output[0] = head.input[0] = "states"
    rows = logits.type.tensor_type.shape.dim[0].dim_param
    graph.output.append(helper.make_tensor_value_info("states", logits.type.tensor_type.elem_type, [rows, 1, width]))


def speak_first(graph: onnx.GraphProto, num_spoken: int) -> None:
    """Cut a graph's head, quantized or not, to the first tokens; the others are spoken by a depth head.

    Where the head is the embedding as well, the file keeps it whole and a session cuts it as it loads.
    """
    logits = next(value for value in graph.output if value.name == "logits")
    if logits.type.tensor_type.shape.dim[2].dim_value == num_spoken:
        return
    logits.type.tensor_type.shape.dim[2].dim_value = num_spoken
    head = next(node for node in graph.node if "logits" in node.output)
    quantized = head.op_type == "MatMulNBits"
    if quantized:
        next(attribute for attribute in head.attribute if attribute.name == "N").i = num_spoken
    used = [name for node in graph.node for name in node.input]
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes = GraphNodes("spoken")
    for place in (1, 2) if quantized else (1,):
        name, axis = head.input[place], 0 if quantized else 1
        if used.count(name) == 1 and name in weights:
            values = numpy_helper.to_array(weights[name]).take(range(num_spoken), axis)
            weights[name].CopyFrom(numpy_helper.from_array(values, name))
        else:
            ends = nodes.constant([num_spoken])
            head.input[place] = nodes.node("Slice", name, nodes.constant([0]), ends, nodes.constant([axis]))
    others = [*graph.node]
    del graph.node[:]
    place = others.index(head)
    graph.node.extend([*others[:place], *nodes.nodes, *others[place:]])
    graph.initializer.extend(nodes.initializers)
