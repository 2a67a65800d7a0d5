import numpy as np
import pytest
import scipy.linalg
import torch
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance
from torchmetrics.retrieval import RetrievalHitRate

from python_core.evaluation.metrics import (
    Gaussian,
    distances,
    diversity,
    draw_pools,
    frechet_distance,
    kernel_distance,
    matching_distances,
    multimodality,
    over_repeats,
    retrieval_hits,
)

POOL_OF_4 = np.arange(4)[None]


def test_distances_are_euclidean_by_hand():
    np.testing.assert_allclose(distances(np.array([[0.0, 0.0], [3.0, 0.0]]), np.array([[3.0, 4.0]])), [[5.0], [4.0]])


def test_hits_at_1_2_and_3_by_hand():
    texts = np.array([[0.0], [10.0], [20.0], [30.0]])
    # Nearer than their own motion are to the texts, in turn: one, two, one and three others.
    motions = np.array([[1.0], [30.0], [34.0], [0.0]])
    hits = retrieval_hits(texts, motions, POOL_OF_4)[0]
    np.testing.assert_array_equal(hits, [[0, 1, 1], [0, 0, 1], [0, 1, 1], [0, 0, 0]])


def test_a_perfect_model_hits_always_and_one_that_says_always_the_same_as_often_as_guessing():
    random = np.random.default_rng(0)
    texts = random.normal(size=(64, 8))
    pools = draw_pools(None, 64, random)
    assert retrieval_hits(texts, texts, pools).mean(axis=(0, 1)).tolist() == [1, 1, 1]
    same = retrieval_hits(texts, np.tile(texts[:1], (64, 1)), pools)
    np.testing.assert_allclose(same.mean(axis=(0, 1)), [1 / 32, 2 / 32, 3 / 32])


def test_hits_are_those_of_torchmetrics():
    random = np.random.default_rng(1)
    texts = random.normal(size=(96, 8))
    motions = texts + 1.2 * random.normal(size=(96, 8))
    pools = draw_pools(None, 96, random)
    ours = retrieval_hits(texts, motions, pools).mean(axis=(0, 1))
    nearness = torch.stack([-torch.from_numpy(distances(texts[pool], motions[pool])) for pool in pools]).flatten()
    own, queries = torch.eye(32, dtype=torch.bool).repeat(3, 1).flatten(), torch.arange(96).repeat_interleave(32)
    theirs = [float(RetrievalHitRate(top_k=rank)(nearness, own, indexes=queries)) for rank in (1, 2, 3)]
    assert ours.tolist() == pytest.approx(theirs)
    assert 0.1 < theirs[0] < theirs[2] < 0.9


def test_what_is_no_motion_misses_and_helps_no_other_text():
    texts = np.array([[0.0], [10.0], [20.0], [30.0]])
    motions = texts.copy()
    motions[1] = np.nan
    hits = retrieval_hits(texts, motions, POOL_OF_4)[0]
    np.testing.assert_array_equal(hits[:, 0], [1, 0, 1, 1])
    np.testing.assert_array_equal(hits[1], [0, 0, 0])
    assert np.isnan(matching_distances(texts, motions)).tolist() == [False, True, False, False]


def test_frechet_distance_of_two_known_gaussians_by_hand():
    # Means 3 apart; deviations 1 and 2: 9 + (2 - 1)^2.
    first = np.array([[-1.0], [1.0]]) / np.sqrt(2)
    second = 3 + 2 * first
    assert frechet_distance(Gaussian.of(first), Gaussian.of(second)) == pytest.approx(10)


def test_frechet_distance_is_that_of_scipys_square_root_of_a_matrix():
    random = np.random.default_rng(1)
    first = random.normal(size=(200, 12)) @ random.normal(size=(12, 12))
    second = random.normal(size=(300, 12)) @ random.normal(size=(12, 12)) + 0.5
    covariances = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    root = np.real(np.asarray(scipy.linalg.sqrtm(covariances[0] @ covariances[1])))
    expected = ((first.mean(0) - second.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(Gaussian.of(first), Gaussian.of(second)) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_needs_no_full_rank():
    random = np.random.default_rng(2)
    few = random.normal(size=(20, 512))
    assert frechet_distance(Gaussian.of(few), Gaussian.of(few)) == pytest.approx(0, abs=1e-8)
    assert frechet_distance(Gaussian.of(few), Gaussian.of(few + 1)) == pytest.approx(512)


class Flatten(torch.nn.Module):
    """What torchmetrics asks for in place of its own network."""

    num_features = 12

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values.flatten(1)


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    return random.normal(size=(150, 12)), 1.3 * random.normal(size=(150, 12)) + 0.4


@pytest.mark.filterwarnings("ignore:Metric `.*` will save all extracted features:UserWarning")
def test_both_distances_are_those_of_torchmetrics(pair):
    generated, real = pair
    shaped = [torch.from_numpy(values).float().reshape(-1, 3, 2, 2) for values in pair]
    frechet = FrechetInceptionDistance(feature=Flatten(), input_img_size=(3, 2, 2))
    kernel = KernelInceptionDistance(feature=Flatten(), subsets=1, subset_size=150)
    for metric in (frechet, kernel):
        metric.update(shaped[0], real=False)
        metric.update(shaped[1], real=True)
    ours = frechet_distance(Gaussian.of(generated), Gaussian.of(real))
    assert ours == pytest.approx(float(frechet.compute()), rel=1e-3)
    assert kernel_distance(generated, real) == pytest.approx(float(kernel.compute()[0]), rel=1e-4)


def test_kernel_distance_of_two_points_a_side_by_hand():
    # Kernel (x y + 1)^3: within {0, 0} 1, within {1, 1} 8, across 1.
    assert kernel_distance(np.array([[0.0], [0.0]]), np.array([[1.0], [1.0]])) == pytest.approx(1 + 8 - 2)


def test_rows_of_one_text_are_not_held_against_each_other():
    # Kernel (x y + 1)^3: within {0, 1} 1, within {2, 1} 27; across 0 with 1 and 1 with 2, not 0 with 2 and 1 with 1.
    generated, real = np.array([[0.0], [1.0]]), np.array([[2.0], [1.0]])
    assert kernel_distance(generated, real, paired=True) == pytest.approx(1 + 27 - (1 + 27))
    # The last of three texts has no motion: within {2, 1, 0} the mean of 27, 1 and 1, across that of 1, 1, 27 and 1.
    generated, real = np.array([[0.0], [1.0], [np.nan]]), np.array([[2.0], [1.0], [0.0]])
    assert kernel_distance(generated, real, paired=True) == pytest.approx(1 + 29 / 3 - 2 * 30 / 4)


def test_other_pieces_of_the_same_motions_are_as_far_as_the_motions_themselves():
    random = np.random.default_rng(7)
    motions = random.normal(size=(40, 60, 8))
    pieces = motions + 0.1 * random.normal(size=motions.shape)
    weights = random.multinomial(60, np.full(60, 1 / 60), size=40).astype(float)
    for drawn in (np.ones((40, 60)), weights):
        found = [kernel_distance(*of, paired=True) for of in zip(pieces, motions, drawn, strict=True)]
        alone = [kernel_distance(*of) for of in zip(pieces, motions, drawn, strict=True)]
        assert abs(np.mean(found)) < 2 * np.std(found) / np.sqrt(40)
        assert np.mean(alone) < -10 * np.std(found)


def test_kernel_distance_has_no_bias_where_frechet_distance_has():
    random = np.random.default_rng(4)
    kernels, frechets = [], []
    for _ in range(60):
        first, second = random.normal(size=(2, 40, 20))
        kernels.append(kernel_distance(first, second))
        frechets.append(frechet_distance(Gaussian.of(first), Gaussian.of(second)))
    assert abs(np.mean(kernels)) < 2 * np.std(kernels) / np.sqrt(len(kernels))
    assert np.mean(frechets) > 3


def test_a_weight_of_2_is_the_same_as_being_there_twice(pair):
    generated, real = pair
    weights = np.array([2.0, 0.0, 1.0] * 50)
    twice = np.repeat(generated, weights.astype(int), axis=0)
    ours = Gaussian.of(generated, weights)
    assert frechet_distance(ours, Gaussian.of(real)) == pytest.approx(
        frechet_distance(Gaussian.of(twice), Gaussian.of(real)), rel=1e-9
    )


def test_diversity_and_multimodality_by_hand():
    random = np.random.default_rng(5)
    two = np.array([[0.0], [1.0]])
    # Of two points, drawn without replacement twice, both pairs are alike or both differ.
    values = {diversity(two, random) for _ in range(20)}
    assert values == {0.0, 1.0}
    assert multimodality(np.zeros((3, 5, 2)), random) == 0
    spread = random.normal(size=(500, 20, 4))
    # The distance of two normal points in 4 dimensions: sqrt(2) * sqrt(2) gamma(5/2) / gamma(2); 1 pair in 20 is a
    # point with itself.
    assert multimodality(spread, random) == pytest.approx(0.95 * 2 * 1.3293, rel=0.02)
    spread[0, 0] = np.nan
    assert np.isfinite(multimodality(spread, random) or np.nan)
    assert multimodality(np.full((2, 3, 4), np.nan), random) is None


def test_an_interval_over_repeats_by_hand():
    estimate = over_repeats([1.0, 3.0])
    assert (estimate.value, estimate.half_width) == (2.0, pytest.approx(1.96 / np.sqrt(2)))


def test_pools_hold_every_text_once_and_the_last_one_is_dropped():
    pools = draw_pools(None, 100, np.random.default_rng(6))
    assert pools.shape == (3, 32)
    assert len(np.unique(pools)) == 96


@pytest.mark.parametrize("seed", range(5))
def test_texts_that_say_the_same_are_never_in_one_pool(seed):
    random = np.random.default_rng(seed)
    groups = random.integers(100, size=320) ** 2 // 100
    pools = draw_pools(groups, 320, random)
    assert len(np.unique(pools)) == pools.size
    assert len(pools) >= 4
    for pool in pools:
        assert len(np.unique(groups[pool])) == 32


def test_too_few_different_texts_are_refused():
    with pytest.raises(ValueError, match="a pool takes 32 texts that say different things, got 320 texts of 31 kinds"):
        draw_pools(np.arange(320) % 31, 320, np.random.default_rng(0))
    with pytest.raises(ValueError, match="got 31 texts"):
        draw_pools(None, 31, np.random.default_rng(0))


def test_one_motion_has_no_spread():
    for measure in (Gaussian.of, lambda values: kernel_distance(values, values)):
        with pytest.raises(ValueError, match="2 motions"):
            measure(np.array([[1.0, 2.0], [np.nan, np.nan]]))
