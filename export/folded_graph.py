"""Makes a language model's graph read positions and write states, as `motion_model.SpeaksMotion` does."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bridge.engine import PARTS
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


def speak_in_parts(graph: onnx.GraphProto, first_motion: int, num_spoken: int) -> None:
    """Cut a graph's head, quantized or not, to one of words and one of motion, each for the rows that need it.

    The grammar of replies says which comes next, and only the end of a prompt is followed by either. Instead of
    `logits` the graph writes `word_logits` and `motion_logits`, of the rows that are listed in `word_rows` and
    `motion_rows`; an empty list costs nothing.

    Where the head is the embedding as well, a session joins the parts as it loads. It would keep both a matrix that it
    cuts and the parts.

    Args:
        graph: Its inputs and outputs change.
        first_motion: The first token of motion; those before it are words.
        num_spoken: Tokens of both parts; the others are spoken by a depth head.
    """
    head = next(node for node in graph.node if "logits" in node.output)
    logits = next(value for value in graph.output if value.name == "logits")
    used = [name for node in graph.node for name in node.input]
    nodes, joined = GraphNodes("spoken"), list[onnx.NodeProto]()
    parts: list[onnx.NodeProto] = []
    for rows, output in PARTS.items():
        parts.append(onnx.NodeProto())
        parts[-1].CopyFrom(head)
        parts[-1].name, parts[-1].output[0] = f"{head.name}/{output}", output
        parts[-1].input[0] = nodes.node("Gather", head.input[0], rows, axis=0)
    sizes = (first_motion, num_spoken - first_motion)
    quantized = head.op_type == "MatMulNBits"
    for place in (1, 2) if quantized else (1,):
        name, axis = head.input[place], 0 if quantized else 1
        whole = next(tensor for tensor in graph.initializer if tensor.name == name)
        cut = np.split(numpy_helper.to_array(whole), [first_motion, num_spoken], axis)
        graph.initializer.remove(whole)
        names = [nodes.weights(values, f"{name}.{number}") for number, values in enumerate(cut[: len(parts)])]
        for part, of_part in zip(parts, names, strict=True):
            part.input[place] = of_part
        if used.count(name) > 1:
            names += [nodes.weights(values, f"{name}.rest") for values in cut[len(parts) :] if values.size]
            joined.append(helper.make_node("Concat", names, [name], f"spoken/{name}/Concat", axis=axis))
    graph.output.remove(logits)
    data_type = logits.type.tensor_type.elem_type
    for (rows, output), size, part in zip(PARTS.items(), sizes, parts, strict=True):
        graph.input.append(helper.make_tensor_value_info(rows, TensorProto.INT64, [rows]))
        graph.output.append(helper.make_tensor_value_info(output, data_type, [rows, 1, size]))
        if quantized:
            next(attribute for attribute in part.attribute if attribute.name == "N").i = size
    others = [node for node in graph.node if node != head]
    del graph.node[:]
    graph.node.extend([*joined, *others, *nodes.nodes, *parts])
    graph.initializer.extend(nodes.initializers)
