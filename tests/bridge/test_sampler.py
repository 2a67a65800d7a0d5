import numpy as np
import pytest

from bridge.sampler import Sampler, nucleus
from python_core.contract.bundle import BundleError

EVERYTHING = np.ones(5, dtype=np.bool_)


def logits_of(*probabilities: float) -> np.ndarray:
    return np.log(np.array(probabilities)).astype(np.float32)


def test_a_masked_token_is_never_drawn_though_it_is_the_likeliest():
    sampler, allowed = Sampler(0, temperature=2.0, top_p=1.0), np.array([False, True, True, False, True])
    drawn = {sampler.draw(logits_of(0.9, 0.03, 0.03, 0.03, 0.01), allowed) for _ in range(2000)}
    assert drawn == {1, 2, 4}


def test_the_nucleus_of_70_percent_of_5_3_1_1_tenths_is_the_first_two():
    indices, probabilities = nucleus(np.array([0.1, 0.5, 0.1, 0.3]), 0.7)
    assert indices.tolist() == [1, 3]
    assert probabilities.tolist() == [0.5, 0.3]


def test_a_token_that_reaches_top_p_exactly_closes_the_nucleus():
    assert nucleus(np.array([0.25, 0.5, 0.25]), 0.5)[0].tolist() == [1]
    assert nucleus(np.array([0.25, 0.5, 0.25]), 0.75)[0].tolist() == [1, 0]


def test_a_nucleus_of_everything_keeps_the_order_of_ids():
    assert nucleus(np.array([0.1, 0.5, 0.4]), 1.0)[0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9, 0.999])
def test_the_nucleus_of_a_large_vocabulary_is_that_of_a_full_sort(top_p: float):
    for spread in (0.1, 3.0):
        weights = np.exp(spread * np.random.default_rng(3).standard_normal(5000))
        probabilities = weights / weights.sum()
        order = np.argsort(-probabilities, kind="stable")
        expected = order[: np.searchsorted(np.cumsum(probabilities[order]), top_p) + 1]
        assert nucleus(probabilities, top_p)[0].tolist() == expected.tolist()


def test_draws_follow_the_probabilities_within_the_nucleus():
    sampler, logits = Sampler(1, temperature=1.0, top_p=0.75), logits_of(0.4, 0.4, 0.1, 0.06, 0.04)
    counts = np.bincount([sampler.draw(logits, EVERYTHING) for _ in range(4000)], minlength=5)
    assert counts[2:].tolist() == [0, 0, 0]
    assert counts[0] / 4000 == pytest.approx(0.5, abs=0.03)


def test_temperature_one_half_squares_the_odds():
    sampler = Sampler(2, temperature=0.5, top_p=1.0)
    drawn = [sampler.draw(logits_of(0.75, 0.25), np.ones(2, dtype=np.bool_)) for _ in range(4000)]
    assert np.mean(drawn) == pytest.approx(0.1, abs=0.02)


def test_temperature_zero_takes_the_likeliest_allowed_token_and_the_first_of_equals():
    sampler = Sampler(3, temperature=0.0, top_p=0.5)
    assert sampler.draw(logits_of(0.1, 0.3, 0.3, 0.2, 0.1), EVERYTHING) == 1
    assert sampler.draw(logits_of(0.1, 0.3, 0.3, 0.2, 0.1), np.array([True, False, False, True, True])) == 3


def test_the_same_seed_draws_the_same_tokens_and_another_seed_others():
    def draws(seed: int) -> list[int]:
        sampler = Sampler(seed, temperature=1.0, top_p=1.0)
        return [sampler.draw(np.zeros(500, np.float32), np.ones(500, np.bool_)) for _ in range(20)]

    assert draws(7) == draws(7)
    assert draws(7) != draws(8)
    assert draws(2**64 - 1) == draws(2**64 - 1)


def test_logits_that_are_not_finite_are_an_error_unless_they_are_masked():
    sampler, logits = Sampler(0, temperature=1.0, top_p=1.0), np.array([0, np.nan, 0, 0, 0], np.float32)
    with pytest.raises(BundleError, match="not finite"):
        sampler.draw(logits, EVERYTHING)
    assert sampler.draw(logits, np.array([True, False, False, False, False])) == 0


@pytest.mark.parametrize(("temperature", "top_p"), [(-0.1, 1.0), (float("nan"), 1.0), (1.0, 0.0), (1.0, 1.1)])
def test_settings_out_of_range_are_refused(temperature: float, top_p: float):
    with pytest.raises(ValueError, match="must be"):
        Sampler(0, temperature, top_p)
