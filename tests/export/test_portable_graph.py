"""The graph for TensorRT behaves as the engine expects of every graph; run on the CPU."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray

from bridge.engine import SLICE_POSITIONS
from export.portable_graph import build_portable_language_model, language_model_profiles
from export.source import Source, read_source

PLACES = 64


@pytest.fixture(scope="module")
def source(tiny_checkpoint: Path) -> Source:
    return read_source(tiny_checkpoint)


@pytest.fixture(scope="module")
def graph(source: Source, tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    return build_portable_language_model(source, tmp_path_factory.mktemp("portable"))


@pytest.fixture(scope="module")
def positions(source: Source) -> NDArray[np.int64]:
    """Text, then codes, [3, 20, levels]."""
    random, layout = np.random.default_rng(0), source.tokens
    texts = random.integers(layout.first_code, size=(3, 8))
    codes = random.integers(layout.num_codes, size=(3, 12))
    rows = [
        [*text.tolist(), *(token_id for code in of_row.tolist() for token_id in layout.code_ids(code))]
        for text, of_row in zip(texts, codes, strict=True)
    ]
    return np.array([layout.fold(row) for row in rows])


@pytest.fixture(scope="module")
def expected(source: Source, positions: NDArray[np.int64]) -> NDArray[np.float32]:
    """After each position, of all tokens."""
    model = source.language_model
    with torch.no_grad():
        states = model._states(torch.from_numpy(positions), None, None, None, None)
        return torch.nn.functional.linear(states, model.get_input_embeddings().get_parameter("weight")).numpy()


class Steps:
    """A session with its cache."""

    def __init__(self, graph: onnx.ModelProto, source: Source, num_rows: int, num_places: int) -> None:
        self.session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        shape = (num_rows, source.num_kv_heads, num_places, source.head_dim)
        names = [value.name for value in self.session.get_inputs() if value.name.startswith("past_key_values.")]
        self.cache = {name: np.zeros(shape, np.float32) for name in names}

    def run(self, positions: NDArray[np.int64], lengths: list[int], rows: slice = slice(None)) -> NDArray[np.float32]:
        mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
        past = {name: values[rows] for name, values in self.cache.items()}
        outputs = ["logits", *(name.replace("past_key_values", "present") for name in past)]
        found = self.session.run(outputs, {"input_ids": positions, "attention_mask": mask, **past})
        logits, *presents = (np.asarray(values) for values in found)
        for name, present in zip(past, presents, strict=True):
            if rows == slice(None):
                self.cache[name] = present
            else:
                self.cache[name][rows] = present
        return logits[:, 0]


@pytest.mark.parametrize("num_places", [0, PLACES])
def test_a_cache_grows_or_is_written_in_place(
    graph: onnx.ModelProto,
    source: Source,
    positions: NDArray[np.int64],
    expected: NDArray[np.float32],
    num_places: int,
):
    steps = Steps(graph, source, 3, num_places)
    assert steps.run(positions[:, :12], [12] * 3) == pytest.approx(expected[:, 11], abs=1e-4)
    for place in range(12, 20):
        logits = steps.run(positions[:, place : place + 1], [place + 1] * 3)
        assert logits == pytest.approx(expected[:, place], abs=1e-4)
    assert {values.shape[2] for values in steps.cache.values()} == {num_places or 20}


def test_rows_of_different_lengths_share_steps(
    graph: onnx.ModelProto, source: Source, positions: NDArray[np.int64], expected: NDArray[np.float32]
):
    steps, lengths = Steps(graph, source, 3, PLACES), [5, 12, 9]
    for row, length in enumerate(lengths):
        alone = slice(row, row + 1)
        steps.run(positions[alone, : length - 3], [length - 3], alone)
        steps.run(positions[alone, length - 3 : length], [length], alone)
    for _ in range(5):
        logits = steps.run(
            np.array([[positions[row, length]] for row, length in enumerate(lengths)]), [n + 1 for n in lengths]
        )
        for row, length in enumerate(lengths):
            assert logits[row] == pytest.approx(expected[row, length], abs=1e-4)
        lengths = [length + 1 for length in lengths]


def test_it_has_standard_operators_only_and_a_profile_of_every_input(graph: onnx.ModelProto, source: Source):
    assert {node.domain for node in graph.graph.node} <= {"", "ai.onnx"}
    inputs = {value.name: len(value.type.tensor_type.shape.dim) for value in graph.graph.input}
    profiles = {profile.input: profile for profile in language_model_profiles(source)}
    assert profiles.keys() == inputs.keys()
    for name, profile in profiles.items():
        assert len(profile.min) == len(profile.opt) == len(profile.max) == inputs[name]
        assert all(a <= b <= c for a, b, c in zip(profile.min, profile.opt, profile.max, strict=True))
    most = source.language_model.config.max_position_embeddings
    assert profiles["input_ids"].max == (16, SLICE_POSITIONS, source.tokens.num_levels)
    assert profiles["past_key_values.0.key"].max == (16, source.num_kv_heads, most, source.head_dim)
