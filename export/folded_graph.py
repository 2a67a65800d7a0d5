"""Makes a language model's graph read positions and write states, as `motion_model.SpeaksMotion` does."""

from collections.abc import Sequence

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
    nodes = GraphNodes("spoken")
    for place in (1, 2) if quantized else (1,):
        axis = 0 if quantized else 1
        (head.input[place],) = _cut(graph, nodes, head.input[place], axis, [range(num_spoken)])
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

    Where the head is the embedding as well, the file has the rows that are looked up, and a session makes the parts of
    them as it loads.

    Args:
        graph: Its inputs and outputs change.
        first_motion: The first token of motion; those before it are words.
        num_spoken: Tokens of both parts; the others are spoken by a depth head.
    """
    head = next(node for node in graph.node if "logits" in node.output)
    logits = next(value for value in graph.output if value.name == "logits")
    nodes, parts = GraphNodes("spoken"), list[onnx.NodeProto]()
    _store_rows(graph, head.input[1])
    for rows, output in PARTS.items():
        parts.append(onnx.NodeProto())
        parts[-1].CopyFrom(head)
        parts[-1].name, parts[-1].output[0] = f"{head.name}/{output}", output
        parts[-1].input[0] = nodes.node("Gather", head.input[0], rows, axis=0)
    tokens = (range(first_motion), range(first_motion, num_spoken))
    quantized = head.op_type == "MatMulNBits"
    for place in (1, 2) if quantized else (1,):
        names = _cut(graph, nodes, head.input[place], 0 if quantized else 1, tokens)
        for part, of_part in zip(parts, names, strict=True):
            part.input[place] = of_part
    graph.output.remove(logits)
    data_type = logits.type.tensor_type.elem_type
    for (rows, output), of_part, part in zip(PARTS.items(), tokens, parts, strict=True):
        graph.input.append(helper.make_tensor_value_info(rows, TensorProto.INT64, [rows]))
        graph.output.append(helper.make_tensor_value_info(output, data_type, [rows, 1, len(of_part)]))
        if quantized:
            next(attribute for attribute in part.attribute if attribute.name == "N").i = len(of_part)
    others = [node for node in graph.node if node != head]
    del graph.node[:]
    graph.node.extend([*others, *nodes.nodes, *parts])
    graph.initializer.extend(nodes.initializers)


def _store_rows(graph: onnx.GraphProto, head: str) -> None:
    """Let a graph store a head's matrix as the rows that are looked up, where it is the embedding as well.

    A session that has mapped the file into memory reads then only what is looked up.
    """
    transpose = next((node for node in graph.node if node.op_type == "Transpose" and node.input[0] == head), None)
    if transpose is not None:
        whole = next(tensor for tensor in graph.initializer if tensor.name == head)
        transpose.input[0], transpose.output[0] = transpose.output[0], head
        rows = np.ascontiguousarray(numpy_helper.to_array(whole).T)
        whole.CopyFrom(numpy_helper.from_array(rows, transpose.input[0]))


def _cut(graph: onnx.GraphProto, nodes: GraphNodes, name: str, axis: int, parts: Sequence[range]) -> list[str]:
    """Names of parts of a head's weights. Where these are the embedding as well, a session cuts them as it loads."""
    used = [one for node in graph.node for one in node.input]
    whole = next((tensor for tensor in graph.initializer if tensor.name == name), None)
    if whole is None or used.count(name) > 1:
        ends = ((nodes.constant([part.start]), nodes.constant([part.stop])) for part in parts)
        return [nodes.node("Slice", name, *of_part, nodes.constant([axis])) for of_part in ends]
    graph.initializer.remove(whole)
    cut = [numpy_helper.to_array(whole).take(part, axis) for part in parts]
    return [nodes.weights(values, f"{name}.{number}") for number, values in enumerate(cut)]
