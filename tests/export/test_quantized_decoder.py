from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from torch import nn

from export.motion_decoder_graph import FILE, store_weights
from export.source import Source, read_source
from python_core.contract.skeleton import BODY_22
from python_core.features import num_features


@pytest.fixture(scope="module")
def source(tiny_checkpoint: Path) -> Source:
    return read_source(tiny_checkpoint)


@pytest.fixture(scope="module")
def series(source: Source) -> NDArray[np.int64]:
    return np.random.default_rng(3).integers(source.tokens.num_codes, size=(12, 20))


@pytest.fixture(scope="module")
def folder(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("int8")
    graph = onnx.load(tiny_bundle / FILE)
    store_weights(graph, "int8")
    onnx.save(graph, folder / FILE)
    return folder


def decode(folder: Path, source: Source, codes: NDArray[np.int64]) -> list[NDArray[np.float32]]:
    session = ort.InferenceSession(folder / FILE, providers=["CPUExecutionProvider"])
    states = [state.numpy() for state in source.motion_decoder.zero_states(len(codes))]
    names = [given.name for given in session.get_inputs()]
    found = session.run(None, dict(zip(names, (codes, *states), strict=True)))
    return [np.asarray(values) for values in found]


def test_products_are_in_8_bits_but_the_last_and_the_pose_solvers(folder: Path, source: Source):
    graph = onnx.load(folder / FILE).graph
    blocked = [node for node in graph.node if node.op_type == "MatMulNBits"]
    products = [part for part in source.motion_decoder.vqvae.decoder.modules() if isinstance(part, nn.Linear)]
    assert len(blocked) == len(products) - 1
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    plain = [weights.get(node.input[1], ()) for node in graph.node if node.op_type == "MatMul"]
    width = source.motion_decoder.vqvae.shape.width
    assert [shape for shape in plain if np.prod(shape) > 1000] == [(3 * width, num_features(BODY_22))]


def test_frames_are_near_torchs(folder: Path, source: Source, series: NDArray[np.int64]):
    roots, rotations, *_ = decode(folder, source, series)
    expected = source.motion_decoder.motions(series.tolist(), source.frame_rate_hz)
    for row, motion in enumerate(expected):
        assert np.abs(roots[row] - motion.root_positions_m).max() < 0.02
        alike = np.abs((rotations[row] * motion.joint_rotations).sum(-1))
        assert np.degrees(2 * np.arccos(np.minimum(alike, 1))).mean() < 1
