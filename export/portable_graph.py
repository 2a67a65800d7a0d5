"""The language model of standard operators only, for TensorRT, which does not know onnxruntime-genai's.

Exported by optimum, then made to behave as the other graphs do, so that one engine serves them all: the row sums of the
attention mask say how long each row is; new keys and values are put where they belong in a cache that is longer than
what is filled, or that grows to what is needed; rows of a step may have different lengths; logits are those of the last
position.
"""

import contextlib
import io
import logging
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from bridge.engine import SLICE_POSITIONS
from export.folded_graph import read_positions, write_states
from export.graph_nodes import GraphNodes
from export.source import Source, write_huggingface
from python_core.contract.bundle import ShapeProfile

logger = logging.getLogger(__name__)

OPSET = 18
ROWS = (1, 8, 16)
"""Rows of a step for which engines are built: fewest, usual, most."""


def build_portable_language_model(source: Source, scratch: Path) -> onnx.ModelProto:
    """Build the graph in float32.

    Args:
        source: What is exported.
        scratch: Folder in which there is room for the model twice.

    Raises:
        ValueError: optimum does not know the model's architecture, or the graph is not what is expected of it.
        OSError: There is no room on the disk.
    """
    from optimum.exporters.onnx import main_export

    said = io.StringIO()
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        weights, built = Path(folder) / "weights", Path(folder) / "built"
        write_huggingface(source, weights)
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), warnings.catch_warnings():
            # It traces, and says of each branch that it was taken; parity shows that none of them matters.
            warnings.simplefilter("ignore")
            main_export(
                str(weights),
                built,
                task="text-generation-with-past",
                opset=OPSET,
                dtype="fp32",
                do_validation=False,
                no_post_process=True,
                local_files_only=True,
            )
        logger.debug("%s", said.getvalue())
        model = onnx.load(built / "model.onnx")
    _write_in_place(model.graph)
    _keep_last_position(model.graph, source.tokens.vocabulary_size)
    read_positions(model.graph, source.tokens.num_levels)
    write_states(model.graph, source.language_model.config.hidden_size)
    onnx.checker.check_model(model, full_check=True)
    inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    known = {value.name for value in inferred.graph.value_info}
    unknown = [name for node in inferred.graph.node for name in node.output if name and name not in known]
    outputs = {value.name for value in inferred.graph.output}
    if unknown := sorted(set(unknown) - outputs):
        raise ValueError(f"the portable graph has values whose shapes nothing tells: {', '.join(unknown[:5])}")
    return model


def language_model_profiles(source: Source) -> tuple[ShapeProfile, ...]:
    """Shapes of every input: up to 16 rows, slices as the engine reads them, caches as long as the model takes."""
    most = source.language_model.config.max_position_embeddings
    heads, width, levels = source.num_kv_heads, source.head_dim, source.tokens.num_levels
    few, usual, many = ROWS
    profiles = [
        ShapeProfile(
            input="input_ids", min=(few, 1, levels), opt=(usual, 1, levels), max=(many, SLICE_POSITIONS, levels)
        ),
        ShapeProfile(input="attention_mask", min=(few, 1), opt=(usual, most // 2), max=(many, most)),
    ]
    shapes = [(few, heads, 0, width), (usual, heads, most, width), (many, heads, most, width)]
    for layer in range(source.language_model.config.num_hidden_layers):
        for kind in ("key", "value"):
            name = f"past_key_values.{layer}.{kind}"
            profiles.append(ShapeProfile(input=name, min=shapes[0], opt=shapes[1], max=shapes[2]))
    return tuple(profiles)


def _write_in_place(graph: onnx.GraphProto) -> None:
    """Replace how positions, mask and cache are computed."""
    front = GraphNodes("cache")
    zero, one, two, last_but_one = (front.constant([number]) for number in (0, 1, 2, -2))
    # Of each row the new tokens end where its length ends.
    lengths = front.node("ReduceSum", "attention_mask", one, keepdims=1)
    num_new = front.node("Slice", front.node("Shape", "input_ids"), one, two)
    steps = front.node("Range", front.constant(0), front.node("Squeeze", num_new), front.constant(1))
    positions = front.node("Add", front.node("Sub", lengths, num_new), steps, output="position_ids")
    longest = front.node("Slice", front.node("Shape", "attention_mask"), one, two)
    first_cache = next(value.name for value in graph.input if value.name.startswith("past_key_values."))
    filled = front.node("Slice", front.node("Shape", first_cache), last_but_one, front.constant([-1]))
    size = front.node("Max", filled, longest)
    places = front.node("Range", front.constant(0), front.node("Squeeze", size), front.constant(1))
    asking = front.node("Unsqueeze", positions, front.constant([1, 3]))
    seen = front.node("LessOrEqual", places, asking)
    mask = front.node("Where", seen, front.constant(0.0), front.constant(float(np.finfo(np.float32).min)))
    # [B, 1, places, new tokens]: which new token belongs where.
    belongs = front.node(
        "Equal", front.node("Unsqueeze", places, one), front.node("Unsqueeze", positions, front.constant([1, 2]))
    )
    chosen = front.node("Cast", belongs, to=TensorProto.FLOAT)
    written = front.node("ReduceMax", chosen, front.constant([-1]), keepdims=1)
    is_written = front.node("Cast", written, to=TensorProto.BOOL)
    growth = front.node("Sub", size, filled)
    none = front.node(
        "ConstantOfShape", front.constant([6]), value=helper.make_tensor("zero", TensorProto.INT64, [1], [0])
    )
    pads = front.node("Concat", none, growth, zero, axis=0)

    behind = {output: node for node in graph.node for output in node.output}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "Concat" and node.output[0].startswith("present."):
            past, new = node.input
            name = node.output[0]
            nodes += [
                helper.make_node("Pad", [past, pads], [f"{name}.room"], f"cache/{name}/Pad"),
                helper.make_node("MatMul", [chosen, new], [f"{name}.new"], f"cache/{name}/MatMul"),
                helper.make_node("Where", [is_written, f"{name}.new", f"{name}.room"], [name], f"cache/{name}/Where"),
            ]
            continue
        if node.op_type == "Softmax":
            scores = behind[node.input[0]]
            scores.input[1] = mask
        nodes.append(node)
    del graph.node[:]
    graph.node.extend([*front.nodes, *nodes])
    graph.initializer.extend(front.initializers)
    graph.input.remove(next(value for value in graph.input if value.name == "position_ids"))
    for value in [*graph.input, *graph.output]:
        shape = value.type.tensor_type.shape
        if value.name == "attention_mask":
            shape.dim[1].dim_param = "longest"
        elif value.name.startswith("present."):
            shape.dim[2].dim_param = "places"
    _drop_unused(graph)


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Drop nodes and weights that no output depends on."""
    needed = {value.name for value in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(weights)


def _keep_last_position(graph: onnx.GraphProto, vocabulary_size: int) -> None:
    """Compute the head for the last position only."""
    place, head = next((place, node) for place, node in enumerate(graph.node) if node.output[0] == "logits")
    constants = {"first": np.array([-1], np.int64), "end": np.array([np.iinfo(np.int64).max], np.int64)}
    constants["axis"] = np.array([1], np.int64)
    graph.initializer.extend(numpy_helper.from_array(value, f"last.{name}") for name, value in constants.items())
    inputs = [head.input[0], "last.first", "last.end", "last.axis"]
    graph.node.insert(place, helper.make_node("Slice", inputs, ["last.hidden"], "last/Slice"))
    head.input[0] = "last.hidden"
    logits = next(value for value in graph.output if value.name == "logits")
    rows = logits.type.tensor_type.shape.dim[0].dim_param
    logits.CopyFrom(helper.make_tensor_value_info("logits", TensorProto.FLOAT, [rows, 1, vocabulary_size]))
