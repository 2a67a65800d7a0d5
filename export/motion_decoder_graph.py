"""The motion decoder as an ONNX graph: codes and state -> root positions, joint rotations, contacts and state."""

import contextlib
import io
import logging
from pathlib import Path

import onnx
import torch

from export.graph_file import write_graph
from export.quantized_decoder import quantize_decoder
from export.stored_weights import store_weights_as_float16
from python_core.contract.bundle import MotionDecoderGraph, ShapeProfile
from python_core.motion_decoder import MotionDecoder
from python_core.steady_twist import MEMORY_FRAMES

logger = logging.getLogger(__name__)

FILE = "motion_decoder.onnx"
OPSET = 20
INPUTS = ("codes", "conv_state", "root_state", "past_joints_m")
OUTPUTS = (
    "root_positions_m",
    "joint_rotations",
    "contacts",
    "next_conv_state",
    "next_root_state",
    "next_past_joints_m",
)


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
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        program = torch.onnx.export(
            decoder,
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=INPUTS,
            output_names=OUTPUTS,
            dynamic_shapes=({0: any_size, 1: any_size}, {0: any_size}, {0: any_size}, {0: any_size}),
        )
    logger.debug("%s", said.getvalue())
    assert program is not None
    graph = program.model_proto
    if precision == "fp16":
        store_weights_as_float16(graph)
    elif precision == "int8":
        quantize_decoder(graph)
    onnx.checker.check_model(graph, full_check=True)
    write_graph(graph, bundle / FILE)
    return MotionDecoderGraph(
        file=FILE,
        conv_state_size=decoder.vqvae.decoder.state_size,
        num_past_frames=MEMORY_FRAMES,
        precision=precision,
        profiles=_profiles(decoder) if profiled else (),
    )


def _profiles(decoder: MotionDecoder) -> tuple[ShapeProfile, ...]:
    """One code of one stream, some codes of some, a whole clip of many."""
    states = [state.shape[1:] for state in decoder.zero_states(1)]
    profiles = [ShapeProfile(input="codes", min=(1, 1), opt=(16, 8), max=(64, 49))]
    for name, shape in zip(INPUTS[1:], states, strict=True):
        profiles.append(ShapeProfile(input=name, min=(1, *shape), opt=(16, *shape), max=(64, *shape)))
    return tuple(profiles)
