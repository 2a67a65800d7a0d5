"""The motion decoder as an ONNX graph: codes and state -> root positions, joint rotations, contacts and state."""

import contextlib
import io
import logging
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch

from export.graph_file import write_graph
from export.quantized_decoder import quantize_decoder
from export.stored_weights import store_weights_as_float16
from python_core.contract.bundle import GraphState, MotionDecoderGraph, ShapeProfile
from python_core.motion_decoder import MotionDecoder

logger = logging.getLogger(__name__)

FILE = "motion_decoder.onnx"
OPSET = 20
FRAMES = ("root_positions_m", "joint_rotations", "contacts")
STATES = ("root_state", "last_bones", "last_limbs", "past_turns")
"""Those before the convolutions', as the decoder takes them."""


def write_motion_decoder_graph(
    decoder: MotionDecoder,
    precision: str,
    bundle: Path,
    profiled: bool = False,
) -> MotionDecoderGraph:
    """Write `motion_decoder.onnx` for any number of streams and codes.

    Args:
        decoder: The decoder.
        precision: fp32, fp16 for weights that are stored in float16 and computed in float32, or int8.
        bundle: Folder to write into.
        profiled: Whether to say for which shapes TensorRT builds engines.
    """
    # Batch and length differ from 1 and from each other here, so that the exporter takes neither for a constant.
    example = (torch.zeros(2, 3, dtype=torch.int64), *decoder.zero_states(2))
    any_size = torch.export.Dim.DYNAMIC
    conv_states = [f"conv_state.{number}" for number in range(len(decoder.vqvae.decoder.state_shapes))]
    states = (*STATES, *conv_states)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        program = torch.onnx.export(
            decoder,
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=("codes", *states),
            output_names=(*FRAMES, *(f"next_{state}" for state in states)),
            dynamic_shapes=(
                {0: any_size, 1: any_size},
                *({0: any_size} for _ in STATES),
                tuple({0: any_size} for _ in conv_states),
            ),
        )
    logger.debug("%s", said.getvalue())
    assert program is not None
    graph = program.model_proto
    store_weights(graph, precision)
    onnx.checker.check_model(graph, full_check=True)
    write_graph(graph, bundle / FILE)
    shapes = [tuple(zeros.shape[1:]) for zeros in example[1:]]
    found = tuple(GraphState(name=name, shape=shape) for name, shape in zip(states, shapes, strict=True))
    profiles = _profiles(found) if profiled else ()
    return MotionDecoderGraph(file=FILE, states=found, precision=precision, profiles=profiles)


def store_weights(graph: onnx.ModelProto, precision: str) -> None:
    """Store the weights of a decoder as `write_motion_decoder_graph` does; in place.

    Args:
        graph: In float32.
        precision: fp32, fp16 or int8.
    """
    if precision == "fp16":
        store_weights_as_float16(graph)
    elif precision == "int8":
        quantize_decoder(graph)


def _profiles(states: Sequence[GraphState]) -> tuple[ShapeProfile, ...]:
    """One code of one stream, some codes of some, a whole clip of many."""
    profiles = [ShapeProfile(input="codes", min=(1, 1), opt=(16, 8), max=(64, 49))]
    for state in states:
        shape = state.shape
        profiles.append(ShapeProfile(input=state.name, min=(1, *shape), opt=(16, *shape), max=(64, *shape)))
    return tuple(profiles)
