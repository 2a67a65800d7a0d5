"""The motion decoder as an ONNX graph: codes and state -> root positions, joint rotations, contacts and state."""

import contextlib
import io
import logging
from pathlib import Path

import onnx
import torch

from export.graph_file import write_graph
from export.stored_weights import store_weights_as_float16
from python_core.contract.bundle import MotionDecoderGraph
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


def write_motion_decoder_graph(decoder: MotionDecoder, precision: str, bundle: Path) -> MotionDecoderGraph:
    """Write `motion_decoder.onnx` for any number of streams and codes.

    Args:
        decoder: The decoder.
        precision: fp32, or fp16 for weights that are stored in float16 and computed in float32.
        bundle: Folder to write into.
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
    onnx.checker.check_model(graph, full_check=True)
    write_graph(graph, bundle / FILE)
    return MotionDecoderGraph(
        file=FILE,
        conv_state_size=decoder.vqvae.decoder.state_size,
        num_past_frames=MEMORY_FRAMES,
        precision=precision,
        profiles=(),
    )
