"""What export learns from replies: how weights are written in 8 or 4 bits, and how large keys and values become.

Several ways to write weights are tried, what they do is measured.
"""

import logging
from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor

from bridge.providers import session_options
from export.quantized_cache import kept_values
from export.quantized_graph import PER_OUTPUT, matrices, quantize_graph
from export.quantized_weights import BLOCK_SIZES, Scheme
from export.replies import WrittenReply
from export.source import Source

logger = logging.getLogger(__name__)

GOOD_ENOUGH = {8: 1e-3, 4: 0.02}
"""Mean divergence in nats at which nothing slower is tried."""


def sum_products(
    source: Source, graph: onnx.ModelProto, replies: Sequence[WrittenReply], progress: Progress
) -> dict[str, Tensor]:
    """What the matrices of a graph are multiplied with, over positions that it sees in use.

    Args:
        source: What is exported.
        graph: Of its language model, in float32.
        replies: Read with their prompts.
        progress: Shows how far it is.

    Returns:
        The products of each matrix' inputs with each other, summed over all positions: name of the weights -> [K, K].
    """
    watched = every_position(graph)
    inputs = matrices(watched.graph)
    names = sorted(set(inputs.values()))
    del watched.graph.output[:]
    watched.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names
    )
    session = _open(watched)
    sums: dict[str, Tensor] = {}
    for reply in progress.track(replies, description="calibration"):
        for name, values in zip(names, _read(source, session, names, reply), strict=True):
            rows = torch.from_numpy(values)[0]
            sums[name] = sums.get(name, 0) + rows.T @ rows
    return {weights: sums[name] for weights, name in inputs.items()}


def largest_kept(
    source: Source, graph: onnx.ModelProto, replies: Sequence[WrittenReply], progress: Progress
) -> dict[str, NDArray[np.float32]]:
    """The largest magnitude of each channel of keys and values, over positions that a graph sees in use.

    Args:
        source: What is exported.
        graph: Of its language model, in float32.
        replies: Read with their prompts.
        progress: Shows how far it is.

    Returns:
        For each of `kept_values`, [kv heads, head dim].
    """
    session, names = _open(graph), kept_values(graph.graph)
    largest = dict.fromkeys(names, np.zeros((source.num_kv_heads, source.head_dim), np.float32))
    for reply in progress.track(replies, description="keys and values"):
        for name, values in zip(names, _read(source, session, names, reply), strict=True):
            largest[name] = np.maximum(largest[name], np.abs(values).max(axis=(0, 2)))
    return largest


def quantize_language_model(
    source: Source,
    graph: onnx.ModelProto,
    plain: onnx.ModelProto,
    bits: int,
    replies: Sequence[WrittenReply],
    progress: Progress,
) -> tuple[onnx.ModelProto, str]:
    """Write a graph's weights in the first way that is good enough, or else in the best one.

    Args:
        source: What is exported.
        graph: What is quantized; it stays as it is.
        plain: The same in float32 for the CPU, on which all is measured.
        bits: 8 or 4.
        replies: Every fourth chooses among the ways that were learned from the others.
        progress: Shows how far it is.

    Returns:
        The graph, and how its weights are written.

    Raises:
        ValueError: The model's width is no multiple of the smallest block.
    """
    width = source.language_model.config.hidden_size
    # The largest first, which are smallest and fastest.
    sizes = [size for size in BLOCK_SIZES[bits] if width % size == 0]
    if not sizes:
        least = BLOCK_SIZES[bits][-1]
        raise ValueError(f"int8 and int4 weights need a width that is a multiple of {least}, got {width}")
    held_out = replies[::4]
    calibration = [reply for number, reply in enumerate(replies) if number % 4]
    grams = sum_products(source, plain, calibration, progress)
    expected = _log_probabilities(source, plain, held_out)
    names = list(matrices(plain.graph))
    ways = [(Scheme(bits=bits, block_size=size, compensated=bits == 4), size) for size in sizes]
    if bits == 8 and graph is plain:
        ways.insert(0, (PER_OUTPUT, sizes[0]))
    task = progress.add_task(f"weights in {bits} bits", total=len(ways))
    best: tuple[float, dict[str, Scheme]] | None = None
    for scheme, size in ways:
        schemes = dict.fromkeys(names, scheme)
        # Its rows are the embedding as well, which a compensated row would not be any more.
        schemes[names[-1]] = Scheme(bits=8, block_size=size, compensated=False)
        tried = onnx.ModelProto()
        tried.CopyFrom(plain)
        quantize_graph(tried, schemes, schemes[names[-1]], grams)
        found = _log_probabilities(source, tried, held_out)
        divergence = float((expected.exp() * (expected - found)).sum(-1).mean())
        logger.info("%s: mean divergence %.2g nats", schemes[names[0]], divergence)
        if best is None or divergence < best[0]:
            best = divergence, schemes
        progress.update(task, advance=1)
        if divergence <= GOOD_ENOUGH[bits]:
            break
    assert best is not None
    progress.update(task, completed=len(ways))
    schemes = best[1]
    head = schemes[names[-1]]
    quantized = onnx.ModelProto()
    quantized.CopyFrom(graph)
    quantize_graph(quantized, schemes, head, grams)
    return quantized, f"{schemes[names[0]]}; embedding and head: {head}"


def every_position(graph: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a graph that writes logits of all positions, [B, P, V], not of the last one only."""
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    behind = {output: node for node in copy.graph.node for output in node.output}
    head = behind["logits"]
    while behind[head.input[0]].op_type in ("Gather", "Unsqueeze"):
        head.input[0] = behind[head.input[0]].input[0]
    logits = next(value for value in copy.graph.output if value.name == "logits")
    logits.type.tensor_type.ClearField("shape")
    return copy


def _log_probabilities(source: Source, graph: onnx.ModelProto, replies: Sequence[WrittenReply]) -> Tensor:
    """Of every first token at every position of the replies, [positions, V]."""
    session = _open(every_position(graph))
    rows = []
    for reply in replies:
        (logits,) = _read(source, session, ["logits"], reply)
        spoken = logits[0, len(reply.prompt) - 1 : -1, : source.tokens.num_spoken]
        rows.append(torch.from_numpy(spoken).log_softmax(-1))
    return torch.cat(rows)


def _open(graph: onnx.ModelProto) -> ort.InferenceSession:
    return ort.InferenceSession(graph.SerializeToString(), session_options(1), providers=["CPUExecutionProvider"])


def _read(
    source: Source, session: ort.InferenceSession, names: Sequence[str], reply: WrittenReply
) -> list[NDArray[np.float32]]:
    """Let a graph read a prompt and its reply in one step."""
    positions = np.array([source.tokens.fold(reply.prompt + reply.reply)], np.int64)
    empty = np.zeros((1, source.num_kv_heads, 0, source.head_dim), np.float32)
    inputs = {value.name: empty for value in session.get_inputs()}
    inputs |= {"input_ids": positions, "attention_mask": np.ones(positions.shape[:2], np.int64)}
    return [np.asarray(found) for found in session.run(list(names), inputs)]
