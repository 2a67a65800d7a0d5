from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from python_core.contract.plan import Beat, Plan
from python_core.evaluation.plan_measures import (
    AMONG_NEAREST,
    CELL_ROWS,
    NUM_OTHERS,
    align,
    measure_plans,
    with_other_plans,
)
from python_core.evaluators.beat_captions import beat_caption

ACTIONS = [f"action {number}" for number in range(40)]
NUMBERS = {beat_caption(text): number for number, text in enumerate(ACTIONS)}
"""Of actions, by what a judge is told of them."""


class OneHotJudge:
    """Of a motion whose rows hold the number of an action in their first column: how much of each action is in it."""

    def embed_texts(self, captions: Sequence[str]) -> NDArray[np.float32]:
        return np.eye(len(ACTIONS), dtype=np.float32)[[NUMBERS[caption] for caption in captions]]

    def embed_motions(self, clips: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        counts = [np.bincount(rows[:, 0].astype(int), minlength=len(ACTIONS)) / len(rows) for rows in clips]
        return np.array(counts, dtype=np.float32)


def motion(*parts: tuple[int, int]) -> NDArray[np.float32]:
    """Rows of actions, each for so many cells."""
    return np.concatenate([np.full((cells * CELL_ROWS, 2), action, dtype=np.float32) for action, cells in parts])


def plan(*parts: tuple[int, float]) -> Plan:
    return Plan(tuple(Beat(ACTIONS[action], seconds) for action, seconds in parts))


OTHERS = [plan(*((action, 1.0) for action in range(first, first + 4))) for first in range(4, 40, 4)]


def measure(plans: list[Plan], motions: list[NDArray[np.float32] | None]):
    return measure_plans(
        OneHotJudge(),
        [*plans, *OTHERS],
        [*motions, *[motion(*((ACTIONS.index(beat.text), 2) for beat in other.beats)) for other in OTHERS]],
        frame_rate_hz=20.0,
        seed=1,
    )


def test_alignment_is_the_best_of_all_ways_to_cut():
    random = np.random.default_rng(1)
    apart = random.random((3, 8, 8))
    found = align(apart)
    ways = [(0, *cuts, 7) for cuts in combinations(range(1, 7), 2)]
    costs = [sum(apart[k, a, b] * (b - a) for k, (a, b) in enumerate(pairwise(way))) for way in ways]
    assert found.distance == pytest.approx(min(costs) / 7)
    assert found.cuts == ways[int(np.argmin(costs))]


def test_more_beats_than_cells_are_refused():
    with pytest.raises(ValueError, match="3 beats need 3 cells or more, got 2"):
        align(np.zeros((3, 3, 3)))


def test_a_motion_that_does_what_the_plan_says_follows_it_to_the_second():
    found = measure([plan((0, 1.2), (1, 0.8), (2, 2.0))], [motion((0, 3), (1, 2), (2, 5))])
    assert (found.recovered, found.in_order, found.followed) == (1, 1, 1)
    # The other plans say 1.0 s where their motions take 0.8 s.
    assert found.duration_error_s == pytest.approx(0.2 * 36 / 39)


def test_the_wrong_order_is_not_followed():
    found = measure([plan((0, 1.2), (1, 1.2))], [motion((1, 3), (0, 3))])
    assert found.in_order == pytest.approx(9 / 10)
    assert found.followed == pytest.approx(9 / 10)


def test_a_beat_that_is_left_out_is_not_recovered():
    found = measure([plan((0, 1.2), (1, 1.2))], [motion((0, 3), (30, 1), (31, 1), (32, 1))])
    assert found.recovered == pytest.approx(37 / 38)
    assert found.followed == pytest.approx(9 / 10)


def test_a_missing_motion_follows_nothing():
    found = measure([plan((0, 1.2), (1, 1.2))], [None])
    assert found.recovered == pytest.approx(36 / 38)
    assert found.in_order == pytest.approx(9 / 10)


def test_each_plan_meets_another_of_as_many_beats_that_has_none_of_its_own():
    plans = [plan((0, 1.0), (1, 1.0)), plan((1, 1.0), (2, 1.0)), plan((3, 1.0)), plan((4, 2.0), (5, 1.0))]
    assert with_other_plans(plans) == [(0, plans[3]), (1, plans[3]), (3, plans[0])]


def test_motions_that_have_nothing_to_do_with_a_plan_recover_more_of_it_than_a_window_that_is_not_chosen():
    random = np.random.default_rng(8)
    embedded = random.normal(size=(len(ACTIONS), 16)).astype(np.float32)

    class RandomJudge(OneHotJudge):
        def embed_texts(self, captions: Sequence[str]) -> NDArray[np.float32]:
            return embedded[[NUMBERS[caption] for caption in captions]]

        def embed_motions(self, clips: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
            return random.normal(size=(len(clips), 16)).astype(np.float32)

    plans = [plan(*((int(action), 2.0) for action in random.choice(40, 3, replace=False))) for _ in range(150)]
    motions: list[NDArray[np.float32] | None] = [np.zeros((15 * CELL_ROWS, 2), np.float32)] * len(plans)
    found = measure_plans(RandomJudge(), plans, motions, 20.0, seed=1, other_texts=ACTIONS)
    by_chance = AMONG_NEAREST / (NUM_OTHERS + 1)
    assert found.recovered > by_chance + 3 * np.sqrt(by_chance / 450)


def test_plans_need_others_to_stand_out_from():
    with pytest.raises(ValueError, match="compared with 31 texts of other plans, got 0"):
        measure_plans(OneHotJudge(), [plan((0, 1.0))], [motion((0, 3))], 20.0, seed=1)
