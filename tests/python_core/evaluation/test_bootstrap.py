import numpy as np
import pytest

from python_core.evaluation.bootstrap import bootstrap_draws, draw_weights, percentile_interval, weighted_mean


def test_an_item_counts_as_often_as_all_its_recordings_together():
    weights = draw_weights([["a"], ["b"], ["a", "b"], ["a", "a"]], num=50, seed=1)
    a, b, both, twice = weights.T
    np.testing.assert_array_equal(a + b, 2)
    np.testing.assert_array_equal(both, a * b)
    np.testing.assert_array_equal(twice, a)


def test_draws_follow_from_the_seed_alone():
    made_of = [["a", "b"], ["c"]]
    np.testing.assert_array_equal(draw_weights(made_of, 9, seed=3), draw_weights(made_of, 9, seed=3))
    assert (draw_weights(made_of, 9, seed=3) != draw_weights(made_of, 9, seed=4)).any()


def test_of_independent_items_it_is_the_usual_bootstrap_of_a_mean():
    random = np.random.default_rng(2)
    values = random.normal(size=400)
    draws = bootstrap_draws(
        lambda counts: weighted_mean(values, counts), draw_weights([[str(k)] for k in range(400)], 1000, seed=5)
    )
    estimate = percentile_interval(float(values.mean()), draws)
    assert estimate is not None
    assert estimate.half_width == pytest.approx(1.96 / np.sqrt(400), rel=0.1)


def test_what_shares_recordings_is_less_sure_than_it_looks():
    random = np.random.default_rng(3)
    of_recording = random.normal(size=20)
    pairs = [(a, b) for a in range(20) for b in range(20) if a != b]
    values = np.array([of_recording[a] + of_recording[b] for a, b in pairs])
    made_of = [[str(a), str(b)] for a, b in pairs]
    draws = bootstrap_draws(lambda counts: weighted_mean(values, counts), draw_weights(made_of, 400, seed=6))
    naive = values.std() / np.sqrt(len(values))
    assert draws.std() > 3 * naive


def test_draws_that_leave_nothing_to_measure_are_left_out_and_most_of_them_give_no_interval():
    values = np.array([1.0, np.nan])
    draws = bootstrap_draws(lambda counts: weighted_mean(values, counts), np.array([[1.0, 1.0], [0.0, 2.0]]))
    assert draws[0] == 1
    assert np.isnan(draws[1])
    assert percentile_interval(1.0, draws) is None


def test_a_recentred_interval_by_hand():
    # The middle 95 % of 0, 1 .. 40 is 1 to 39, around a mean of 20.
    estimate = percentile_interval(5.0, np.arange(41.0), recentre=True)
    assert estimate is not None
    assert (estimate.low, estimate.value, estimate.high) == pytest.approx((-14, 5, 24))


def test_an_item_of_nothing_is_refused():
    with pytest.raises(ValueError, match="item 1 is made of no recording"):
        draw_weights([["a"], []], 2, seed=1)
