"""The depth head's graph says what torch says, and draws from it."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

from export.depth_head_graph import write_depth_head
from python_core.contract.vocabulary import CodebookSize
from python_core.depth_head import DepthHead, DepthHeadShape

ROWS, WIDTH = 64, 96


@pytest.fixture(scope="module")
def head() -> DepthHead:
    torch.manual_seed(0)
    head = DepthHead(WIDTH, CodebookSize(level_size=40, num_levels=6), DepthHeadShape(width=64, feed_forward=128))
    torch.nn.init.normal_(head.levels)
    torch.nn.init.normal_(head.heads)
    return head.eval()


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("fp16", 0.02), ("int8", 0.8), ("int4", 0.5)])
def test_each_level_is_that_of_torch_and_a_row_has_the_same_bits_alone_and_among_63_others(
    head: DepthHead, precision: str, tolerance: float, tmp_path: Path
):
    session = opened(head, precision, tmp_path)
    states, entries = torch.randn(ROWS, WIDTH), torch.randint(40, (ROWS, 6))
    with torch.no_grad():
        expected = head(states, entries[:, :5]).numpy()
    inputs = {
        "states": states.numpy(),
        "given": entries.numpy(),
        "chances": np.random.default_rng(0).random((ROWS, 5)),
        "temperatures": np.full((ROWS, 1), 2.0, np.float32),
    }
    spoken, logits = read(session, inputs)
    assert np.array_equal(spoken, inputs["given"][:, 1:])
    assert logits.std() > 5
    assert logits == pytest.approx(expected, abs=tolerance)
    inputs["given"][:, 2:] = -1
    drawn, logits = read(session, inputs)
    assert np.array_equal(drawn[:, 0], spoken[:, 0])
    assert (drawn[:, 1:] != spoken[:, 1:]).any(axis=0).all()
    for rows in (slice(1), slice(17, 18), slice(63, 64), slice(5, 40)):
        few = read(session, {name: values[rows] for name, values in inputs.items()})
        assert np.array_equal(few[0], drawn[rows])
        assert np.array_equal(few[1], logits[rows])


@pytest.mark.parametrize("chance", [0.0, 1 - 2.0**-53])
def test_neither_the_least_chance_nor_the_greatest_takes_what_is_impossible(
    head: DepthHead, tmp_path: Path, chance: float
):
    session = opened(head, "fp32", tmp_path)
    inputs = {
        "states": np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype(np.float32),
        "given": np.pad(np.zeros((ROWS, 1), np.int64), ((0, 0), (0, 5)), constant_values=-1),
        "chances": np.full((ROWS, 5), chance),
        "temperatures": np.full((ROWS, 1), 0.1, np.float32),
    }
    entries, logits = read(session, inputs)
    below = logits.max(axis=-1, keepdims=True) - logits
    possible = below < 0.1 * 104
    assert not possible[..., 0].all()
    assert not possible[..., -1].all()
    assert np.take_along_axis(possible, entries[..., None], axis=-1).all()


def opened(head: DepthHead, precision: str, folder: Path) -> ort.InferenceSession:
    graph = write_depth_head(head, precision, folder)
    return ort.InferenceSession(folder / graph.file, providers=["CPUExecutionProvider"])


def read(session: ort.InferenceSession, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Entries and logits."""
    return [np.asarray(found) for found in session.run(["entries", "logits"], inputs)]


def test_widths_that_no_block_divides_are_refused(tmp_path: Path):
    head = DepthHead(40, CodebookSize(level_size=8, num_levels=2), DepthHeadShape(width=64))
    with pytest.raises(ValueError, match=r"multiples of 16, got \[40, 64, 512\]"):
        write_depth_head(head, "int8", tmp_path)
