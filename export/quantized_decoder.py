"""The motion decoder's matrix products in 8 bits, inputs included, with scales that are fixed beforehand (static QDQ).

Scales that follow the inputs would differ with the neighbours of a stream; fixed ones come from clips that the decoder
has made of codes.
"""

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from export.graph_file import write_graph
from python_core.motion_decoder import MotionDecoder
from python_core.steady_twist import MEMORY_FRAMES
from python_core.vqvae import FRAMES_PER_CODE

MAX_CODES = 49
NUM_BEGUN = -(-MEMORY_FRAMES // FRAMES_PER_CODE)
MIN_INPUTS = 24
"""The pose solver multiplies by small matrices, and its angles need more than 8 bits."""


class _Clips(CalibrationDataReader):
    """Inputs of the decoder's graph, a clip at a time."""

    def __init__(self, decoder: MotionDecoder, names: Sequence[str], series: Sequence[Sequence[int]]) -> None:
        self._clips = self._inputs(decoder, names, series)

    def get_next(self) -> dict[str, NDArray] | None:
        return next(self._clips, None)

    def _inputs(
        self, decoder: MotionDecoder, names: Sequence[str], series: Sequence[Sequence[int]]
    ) -> Iterator[dict[str, NDArray]]:
        for codes in series:
            # Before the first frames the solver has nothing to look back on, and some of its values are not numbers.
            begun = torch.tensor([codes[:NUM_BEGUN]])
            with torch.no_grad():
                states = decoder(begun, *decoder.zero_states(1))[-3:]
            rest = np.array([codes[NUM_BEGUN:MAX_CODES]], np.int64)
            if rest.size:
                yield dict(zip(names, (rest, *(state.numpy() for state in states)), strict=True))


def quantize_decoder(
    decoder: MotionDecoder, graph: onnx.ModelProto, names: Sequence[str], series: Sequence[Sequence[int]], scratch: Path
) -> onnx.ModelProto:
    """Quantize every product with a matrix of weights; all else stays in float32.

    Args:
        decoder: What the graph was made of.
        graph: In float32.
        names: Of its inputs: codes and the three states.
        series: Codes that it is calibrated with.
        scratch: Folder in which there is room for the graph twice.
    """
    wide = {tensor.name for tensor in graph.graph.initializer if len(tensor.dims) == 2 and tensor.dims[0] >= MIN_INPUTS}
    products = [node.name for node in graph.graph.node if node.op_type == "MatMul" and node.input[1] in wide]
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        plain, quantized = Path(folder) / "plain.onnx", Path(folder) / "quantized.onnx"
        write_graph(graph, plain)
        with warnings.catch_warnings():
            # It looks at the solver's products as well, which are not numbers where no frame comes before.
            warnings.filterwarnings("ignore", message="All-NaN", category=RuntimeWarning)
            quantize_static(
                plain,
                quantized,
                _Clips(decoder, names, series),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["MatMul"],
                nodes_to_quantize=products,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        return onnx.load(quantized)
