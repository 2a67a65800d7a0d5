import numpy as np
import pytest

from bridge.sampler import FEW, Sampler, draw
from python_core.contract.bundle import BundleError

EVERYTHING = (range(5),)


def logits_of(*probabilities: float) -> np.ndarray:
    return np.log(np.array(probabilities)).astype(np.float32)


def drawn(sampler: Sampler, logits: np.ndarray, times: int = 2000) -> set[int]:
    return {sampler.draw(logits, (range(len(logits)),)) for _ in range(times)}


def test_a_token_that_is_not_allowed_is_never_drawn_though_it_is_the_likeliest():
    sampler, allowed = Sampler(0, temperature=2.0, top_p=1.0), (range(1, 3), range(4, 5))
    assert {sampler.draw(logits_of(0.9, 0.03, 0.03, 0.03, 0.01), allowed) for _ in range(2000)} == {1, 2, 4}


def test_the_nucleus_of_70_percent_of_5_3_1_1_tenths_is_the_first_two():
    assert drawn(Sampler(0, 1.0, 0.7), logits_of(0.1, 0.5, 0.1, 0.3)) == {1, 3}


def test_a_token_that_reaches_top_p_exactly_closes_the_nucleus_and_its_equals_are_in_it():
    assert drawn(Sampler(0, 1.0, 0.5), np.log2([0.25, 0.5, 0.25]).astype(np.float32) * np.float32(np.log(2))) == {1}
    assert drawn(Sampler(0, 1.0, 0.6), logits_of(0.25, 0.5, 0.25)) == {0, 1, 2}


def test_random_numbers_are_those_of_the_seed_however_many_are_asked_for():
    expected = np.random.Generator(np.random.Philox(11)).random(100).tolist()
    sampler = Sampler(11, 1.0, 1.0)
    colder = sampler.colder(0.5)
    # One that is colder goes on where the other was.
    assert [(colder if number % 3 else sampler).random() for number in range(100)] == expected


def test_a_colder_sampler_draws_at_less_of_the_temperature_with_the_same_random_numbers():
    logits = logits_of(0.1, 0.5, 0.1, 0.3)
    hot, alone = Sampler(3, 1.0, 1.0), Sampler(3, 1.0, 1.0)
    assert drawn(hot.colder(0.01), logits) == {1}
    drawn(alone, logits)
    # Both have drawn as many random numbers.
    assert hot.temperature == 1.0
    assert [hot.draw(logits, (range(4),)) for _ in range(50)] == [alone.draw(logits, (range(4),)) for _ in range(50)]


@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("size", [500, FEW + 1000])
def test_no_token_outside_the_nucleus_of_a_full_sort_is_drawn(top_p: float, size: int):
    logits = 3 * np.random.default_rng(3).standard_normal(size).astype(np.float32)
    weights = np.exp(logits.astype(np.float64))
    order = np.argsort(-weights, kind="stable")
    nucleus = order[: np.searchsorted(np.cumsum(weights[order]) / weights.sum(), top_p) + 1]
    assert drawn(Sampler(0, 1.0, top_p), logits, times=300) <= set(nucleus.tolist())


def test_a_row_is_drawn_alone_as_among_others():
    random = np.random.default_rng(0)
    logits = random.standard_normal((40, 2 * FEW)).astype(np.float32)
    kinds = [(range(100, 612),), (range(100, 612), range(9, 10)), (range(3, 4),), (range(5000), range(6000, 2 * FEW))]
    allowed = [kinds[row % 4] for row in range(40)]
    settings = [(row, 0.3 * (row % 5), 0.5 + 0.1 * (row % 6)) for row in range(40)]
    together, alone = [Sampler(*one) for one in settings], [Sampler(*one) for one in settings]
    for _ in range(3):
        tokens = draw(list(logits), allowed, together)
        assert tokens == [one.draw(row, ids) for one, row, ids in zip(alone, logits, allowed, strict=True)]
        assert all(any(token in part for part in ids) for token, ids in zip(tokens, allowed, strict=True))


def test_a_row_whose_logits_are_not_finite_fails_alone():
    logits = [np.zeros(2 * FEW, np.float32) for _ in range(4)]
    logits[1][7] = np.nan
    logits[2][5000] = np.inf
    allowed = [(range(10),), (range(10),), (range(2 * FEW),), (range(8, 10),)]
    tokens = draw(logits, allowed, [Sampler(0, 1.0, 0.9) for _ in range(4)])
    assert [isinstance(token, BundleError) for token in tokens] == [False, True, True, False]


def test_draws_follow_the_probabilities_within_the_nucleus():
    sampler, logits = Sampler(1, temperature=1.0, top_p=0.75), logits_of(0.4, 0.4, 0.1, 0.06, 0.04)
    counts = np.bincount([sampler.draw(logits, EVERYTHING) for _ in range(4000)], minlength=5)
    assert counts[2:].tolist() == [0, 0, 0]
    assert counts[0] / 4000 == pytest.approx(0.5, abs=0.03)


def test_temperature_one_half_squares_the_odds():
    sampler = Sampler(2, temperature=0.5, top_p=1.0)
    drawn = [sampler.draw(logits_of(0.75, 0.25), (range(2),)) for _ in range(4000)]
    assert np.mean(drawn) == pytest.approx(0.1, abs=0.02)


def test_temperature_zero_takes_the_likeliest_allowed_token_and_the_first_of_equals():
    sampler = Sampler(3, temperature=0.0, top_p=0.5)
    assert sampler.draw(logits_of(0.1, 0.3, 0.3, 0.2, 0.1), EVERYTHING) == 1
    assert sampler.draw(logits_of(0.1, 0.3, 0.3, 0.2, 0.1), (range(1), range(3, 5))) == 3


def test_the_same_seed_draws_the_same_tokens_and_another_seed_others():
    def draws(seed: int) -> list[int]:
        sampler = Sampler(seed, temperature=1.0, top_p=1.0)
        return [sampler.draw(np.zeros(500, np.float32), (range(500),)) for _ in range(20)]

    assert draws(7) == draws(7)
    assert draws(7) != draws(8)
    assert draws(2**64 - 1) == draws(2**64 - 1)


def test_logits_that_are_not_finite_are_an_error_unless_they_are_masked():
    sampler, logits = Sampler(0, temperature=1.0, top_p=1.0), np.array([0, np.nan, 0, 0, 0], np.float32)
    with pytest.raises(BundleError, match="not finite"):
        sampler.draw(logits, EVERYTHING)
    assert sampler.draw(logits, (range(1),)) == 0


@pytest.mark.parametrize(("temperature", "top_p"), [(-0.1, 1.0), (float("nan"), 1.0), (1.0, 0.0), (1.0, 1.1)])
def test_settings_out_of_range_are_refused(temperature: float, top_p: float):
    with pytest.raises(ValueError, match="must be"):
        Sampler(0, temperature, top_p)
