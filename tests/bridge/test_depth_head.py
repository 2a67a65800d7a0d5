from pathlib import Path

import numpy as np
import pytest
import torch

from bridge.depth_head import DepthHead
from bridge.sampler import Sampler
from export.depth_head_graph import write_depth_head
from python_core import depth_head
from python_core.contract.bundle import BundleError
from python_core.contract.vocabulary import CodebookSize

WIDTH, CODEBOOK = 32, CodebookSize(level_size=20, num_levels=6)


@pytest.fixture(scope="module")
def reference() -> depth_head.DepthHead:
    torch.manual_seed(0)
    head = depth_head.DepthHead(WIDTH, CODEBOOK, depth_head.DepthHeadShape(width=32, feed_forward=64))
    torch.nn.init.normal_(head.heads)
    return head.eval()


@pytest.fixture(scope="module")
def head(reference: depth_head.DepthHead, tmp_path_factory: pytest.TempPathFactory) -> DepthHead:
    folder = tmp_path_factory.mktemp("depth_head")
    return DepthHead(folder, write_depth_head(reference, "fp32", folder), CODEBOOK, WIDTH, "cpu")


@pytest.fixture(scope="module")
def states() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(64, WIDTH)).astype(np.float32)


def test_the_likeliest_entries_are_those_of_torch_level_by_level(
    head: DepthHead, reference: depth_head.DepthHead, states: np.ndarray
):
    firsts = [number % 20 for number in range(64)]
    entries = torch.tensor(firsts)[:, None]
    with torch.no_grad():
        for _ in range(5):
            logits = reference(torch.from_numpy(states), entries, last=True)[:, 0]
            entries = torch.cat([entries, logits.argmax(-1, keepdim=True)], dim=1)
    greedy = [Sampler(0, 0.0, 1.0)] * 64
    assert head.speak([*states], firsts, greedy) == entries[:, 1:].tolist()


def test_a_temperature_of_its_own_makes_the_later_levels_likelier_and_0_the_likeliest(
    reference: depth_head.DepthHead, states: np.ndarray, tmp_path: Path
):
    def spoken(temperature: float, of_request: float) -> list:
        graph = write_depth_head(reference, "fp32", tmp_path, temperature)
        samplers = [Sampler(seed, of_request, 1.0) for seed in range(64)]
        return DepthHead(tmp_path, graph, CODEBOOK, WIDTH, "cpu").speak([*states], [3] * 64, samplers)

    likeliest = spoken(1.0, 0.0)
    assert spoken(0.0, 1.0) == likeliest
    assert spoken(0.5, 1.0) == spoken(1.0, 0.5)
    same = [
        np.mean([a == b for a, b in zip(np.ravel(spoken(times, 1.0)), np.ravel(likeliest), strict=True)])
        for times in (1.0, 0.3)
    ]
    assert same[0] < same[1] < 1


def test_what_is_drawn_does_not_depend_on_neighbours(head: DepthHead, states: np.ndarray):
    def samplers() -> list[Sampler]:
        return [Sampler(seed, 0.5 * (seed % 4), 0.9) for seed in range(64)]

    together = head.speak([*states], [3] * 64, samplers())
    alone = [head.speak([state], [3], [sampler])[0] for state, sampler in zip(states, samplers(), strict=True)]
    assert together == alone
    assert len({tuple(entries) for entries in together if isinstance(entries, list)}) > 32


def test_a_state_that_is_not_finite_is_its_rows_error_and_no_others(head: DepthHead, states: np.ndarray):
    broken = states[:3].copy()
    broken[1] = np.nan
    spoken = head.speak([*broken], [0, 1, 2], [Sampler(seed, 1.0, 1.0) for seed in range(3)])
    assert [isinstance(entries, BundleError) for entries in spoken] == [False, True, False]
    assert spoken[2] == head.speak([states[2]], [2], [Sampler(2, 1.0, 1.0)])[0]


def test_a_run_that_fails_says_so(head: DepthHead):
    with pytest.raises(BundleError, match=r"(?s)depth_head\.onnx: a run failed .*export the bundle again"):
        head.logits(np.zeros((1, WIDTH + 1), np.float32), np.zeros((1, 1), np.int64))
