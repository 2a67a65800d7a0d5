"""The depth head's graph says what torch says, of six levels as of two."""

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


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("fp16", 0.02), ("int8", 0.5), ("int4", 0.5)])
def test_each_level_is_that_of_torch_and_a_row_has_the_same_bits_alone_and_among_63_others(
    head: DepthHead, precision: str, tolerance: float, tmp_path: Path
):
    graph = write_depth_head(head, precision, tmp_path)
    session = ort.InferenceSession(tmp_path / graph.file, providers=["CPUExecutionProvider"])
    states = torch.randn(ROWS, WIDTH)
    entries = torch.randint(40, (ROWS, 5))
    for level in range(1, 6):
        given = entries[:, :level]
        with torch.no_grad():
            expected = head(states, given, last=True)[:, 0].numpy()

        def read(rows: slice, given: torch.Tensor = given) -> np.ndarray:
            inputs = {"states": states[rows].numpy(), "entries": np.ascontiguousarray(given[rows].numpy())}
            return np.asarray(session.run(["logits"], inputs)[0])

        together = read(slice(None))
        assert together.std() > 5
        assert together == pytest.approx(expected, abs=tolerance)
        for row in (0, 17, 63):
            assert np.array_equal(read(slice(row, row + 1))[0], together[row])
        assert np.array_equal(read(slice(5, 40)), together[5:40])


def test_widths_that_no_block_divides_are_refused(tmp_path: Path):
    head = DepthHead(40, CodebookSize(level_size=8, num_levels=2), DepthHeadShape(width=64))
    with pytest.raises(ValueError, match=r"multiples of 16, got \[40, 64, 512\]"):
        write_depth_head(head, "int8", tmp_path)
