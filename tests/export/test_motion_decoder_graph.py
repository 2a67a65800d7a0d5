from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bridge.providers import open_session
from bridge.server import DEFAULT_BUNDLE
from export.motion_decoder_graph import write_motion_decoder_graph
from python_core.contract.bundle import MotionDecoderGraph, open_bundle
from python_core.contract.motion import Motion
from python_core.contract.skeleton import BODY_22
from python_core.features import Normalizer, num_features
from python_core.motion_decoder import MotionDecoder
from python_core.vqvae import Vqvae, VqvaeShape

SHAPE = VqvaeShape(width=48, code_width=24, level_size=512, num_levels=6)
NUM_STREAMS, NUM_CODES = 64, 15


class Graph:
    """A decoder in ONNX Runtime.

    Args:
        folder: Where the graph lies.
        written: What is said of it.
        num_codes: Entries of its codebook.
    """

    def __init__(self, folder: Path, written: MotionDecoderGraph, num_codes: int) -> None:
        self.states, self.num_codes = written.states, num_codes
        self.session = open_session(folder / written.file, "cpu", 1)

    def decode(self, codes: NDArray[np.int64], at_once: int) -> list[NDArray[np.float32]]:
        """Roots, rotations and contacts of streams' codes, [B, T], decoded `at_once` at a time."""
        states = {state.name: np.zeros((len(codes), *state.shape), np.float32) for state in self.states}
        parts = []
        for first in range(0, codes.shape[1], at_once):
            inputs = {"codes": codes[:, first : first + at_once], **states}
            outputs = [np.asarray(output) for output in self.session.run(None, inputs)]
            parts.append(outputs[:3])
            states = dict(zip(states, outputs[3:], strict=True))
        return [np.concatenate(part, axis=1) for part in zip(*parts, strict=True)]


def of_bundle(folder: Path) -> Graph:
    manifest = open_bundle(folder).manifest
    return Graph(folder, manifest.motion_decoder, manifest.tokens.codebook.num_codes)


def of_random_weights(folder: Path) -> Graph:
    torch.manual_seed(2)
    model = Vqvae(SHAPE).eval()
    for level in model.levels:
        level.get_buffer("vectors").normal_()
    width = num_features(BODY_22)
    normalizer = Normalizer(np.zeros(width, np.float32), np.full(width, 0.2, np.float32))
    written = write_motion_decoder_graph(MotionDecoder(model, normalizer).eval(), "int8", folder)
    assert written.precision == "int8"
    return Graph(folder, written, SHAPE.codebook.num_codes)


@pytest.fixture(scope="module", params=["fp32", "fp16", pytest.param("int8", marks=pytest.mark.slow)])
def graph(request: pytest.FixtureRequest, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Graph:
    if request.param == "int8":
        return of_random_weights(tmp_path_factory.mktemp("graph"))
    return of_bundle({"fp32": tiny_bundle, "fp16": DEFAULT_BUNDLE}[request.param])


@pytest.fixture(scope="module")
def codes(graph: Graph) -> NDArray[np.int64]:
    return np.random.default_rng(4).integers(graph.num_codes, size=(NUM_STREAMS, NUM_CODES))


def test_one_code_at_a_time_gives_what_the_whole_clip_gives(graph: Graph, codes: NDArray[np.int64]):
    whole, streamed = (
        [
            Motion(roots, rotations, contacts > 0.5, 20.0).joint_positions_m()
            for roots, rotations, contacts in zip(*graph.decode(codes[:8], at_once), strict=True)
        ]
        for at_once in (NUM_CODES, 1)
    )
    assert np.abs(np.array(whole) - np.array(streamed)).max() <= 1e-5


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 63])
def test_a_stream_gets_the_same_bits_alone_and_among_others(graph: Graph, codes: NDArray[np.int64], batch: int):
    among_all, among_fewer = graph.decode(codes, 1), graph.decode(codes[:batch], 1)
    for many, few in zip(among_all, among_fewer, strict=True):
        assert np.array_equal(many[:batch], few)
