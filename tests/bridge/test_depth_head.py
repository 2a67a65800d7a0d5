import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from bridge.depth_head import DepthHead
from bridge.sampler import Sampler, draw
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


def test_entries_are_drawn_as_tokens_are_of_which_all_may_come(head: DepthHead, states: np.ndarray):
    def samplers() -> list[Sampler]:
        return [Sampler(seed, 0.5 * (seed % 3), 1.0) for seed in range(64)]

    spoken = np.array(head.speak([*states], [3] * 64, samplers()))
    logits = head.logits(states, np.pad(spoken, ((0, 0), (1, 0)), constant_values=3))
    drawing = samplers()
    for level in range(5):
        assert draw([*logits[:, level]], [(range(20),)] * 64, drawing) == spoken[:, level].tolist()
    assert len(np.unique(spoken)) == 20


def test_entries_follow_their_probabilities(head: DepthHead, states: np.ndarray):
    samplers = [Sampler(seed, 1.5, 1.0) for seed in range(4000)]
    spoken = np.array(head.speak([states[0]] * 4000, [3] * 4000, samplers))
    logits = head.logits(states[:1], np.full((1, 6), 3))[0, 0].astype(np.float64) / 1.5
    expected = np.exp(logits - logits.max())
    assert np.bincount(spoken[:, 0], minlength=20) / 4000 == pytest.approx(expected / expected.sum(), abs=0.03)


def test_next_to_no_temperature_takes_the_likeliest(head: DepthHead, states: np.ndarray):
    likeliest, nearly = ([Sampler(seed, temperature, 1.0) for seed in range(64)] for temperature in (0.0, 1e-38))
    assert head.speak([*states], [3] * 64, nearly) == head.speak([*states], [3] * 64, likeliest)


def test_a_state_that_is_not_finite_is_its_rows_error_and_no_others(head: DepthHead, states: np.ndarray):
    broken = states[:3].copy()
    broken[1] = np.nan
    spoken = head.speak([*broken], [0, 1, 2], [Sampler(seed, 1.0, 1.0) for seed in range(3)])
    assert [isinstance(entries, BundleError) for entries in spoken] == [False, True, False]
    assert spoken[2] == head.speak([states[2]], [2], [Sampler(2, 1.0, 1.0)])[0]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_logit_that_is_infinite_at_any_level_is_its_rows_error_and_no_others(
    reference: depth_head.DepthHead, states: np.ndarray, tmp_path: Path, temperature: float
):
    broken = copy.deepcopy(reference)
    with torch.no_grad():
        # Beyond float32 where the first of the inputs is more than 1.2, below 0 or above.
        broken.heads[3, 7] = 0
        broken.heads[3, 7, 0] = 3e38
    graph = write_depth_head(broken, "fp32", tmp_path)
    head = DepthHead(tmp_path, graph, CODEBOOK, WIDTH, "cpu")
    spoken = head.speak([*states], [3] * 64, [Sampler(seed, temperature, 1.0) for seed in range(64)])
    failed = [place for place, entries in enumerate(spoken) if isinstance(entries, BundleError)]
    given = np.array([[0] * 5 if isinstance(entries, BundleError) else entries for entries in spoken])
    entries = torch.from_numpy(np.pad(given, ((0, 0), (1, 0)), constant_values=3)[:, :-1])
    with torch.no_grad():
        logits = broken(torch.from_numpy(states), entries)[:, 3, 7].numpy()
    whole = [place for place in range(64) if place not in failed]
    assert np.isfinite(logits[whole]).all()
    assert 5 < len(failed) < 40


def test_a_run_that_fails_says_so(head: DepthHead):
    with pytest.raises(BundleError, match=r"(?s)depth_head\.onnx: a run failed .*export the bundle again"):
        head.logits(np.zeros((1, WIDTH + 1), np.float32), np.zeros((1, 6), np.int64))
