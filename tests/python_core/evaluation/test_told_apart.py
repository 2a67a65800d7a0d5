from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from python_core.evaluation.bootstrap import draw_weights
from python_core.evaluation.judgement_table import Judgement, ModelRow, as_markdown
from python_core.evaluation.metrics import Estimate
from python_core.evaluation.told_apart import ToldApart, swap_texts, tell_apart

CAPTIONS = [
    "a person walks and then sits",
    "a person sits and then walks",
    "a person nods",
    "a person waves the left hand",
    "a person waves the right hand",
]
MOTIONS = np.array([[1, 0], [-1, 0], [0, 5], [0, 1], [0, 1]], np.float32)


class OrderAndSideJudge:
    """Knows what comes first, and which side is named: one number each."""

    def embed_texts(self, captions: Sequence[str]) -> NDArray[np.float32]:
        order = [1 if "walks and" in caption else -1 if "sits and" in caption else 0 for caption in captions]
        side = [1 if "left" in caption else -1 if "right" in caption else 0 for caption in captions]
        return np.array([order, side], np.float32).T

    def embed_motions(self, clips: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        raise AssertionError("not asked for")


class DeafJudge(OrderAndSideJudge):
    def embed_texts(self, captions: Sequence[str]) -> NDArray[np.float32]:
        return np.zeros((len(captions), 2), np.float32)


def test_motions_are_told_apart_by_their_texts_and_swapped_ones():
    judge = OrderAndSideJudge()
    swapped = swap_texts(CAPTIONS, judge)
    assert {name: one.places.tolist() for name, one in swapped.items()} == {"order": [0, 1], "sides": [3, 4]}
    weights = draw_weights([["a"], ["b"], ["c"], ["d"], ["e"]], 200, seed=1)
    order = tell_apart(swapped["order"], judge.embed_texts(CAPTIONS), MOTIONS, weights)
    sides = tell_apart(swapped["sides"], judge.embed_texts(CAPTIONS), MOTIONS, weights)
    assert order is not None
    assert sides is not None
    assert (order.num, order.share) == (2, 1)
    # The right hand waves as the left one does.
    assert (sides.num, sides.share) == (2, 0.5)
    assert order.over_recordings is not None
    assert sides.over_recordings is not None
    assert (order.over_recordings.low, order.over_recordings.high) == (1, 1)
    assert (sides.over_recordings.low, sides.over_recordings.high) == (0, 1)


def test_a_judge_that_hears_nothing_guesses():
    judge = DeafJudge()
    found = tell_apart(swap_texts(CAPTIONS, judge)["order"], judge.embed_texts(CAPTIONS), MOTIONS, None)
    assert found is not None
    assert (found.share, found.over_recordings) == (0.5, None)


def test_missing_motions_are_left_out():
    judge = OrderAndSideJudge()
    swapped, texts = swap_texts(CAPTIONS, judge)["order"], judge.embed_texts(CAPTIONS)
    motions = MOTIONS.copy()
    motions[0] = np.nan
    found = tell_apart(swapped, texts, motions, None)
    assert found is not None
    assert (found.num, found.share) == (1, pytest.approx(1))
    motions[1] = np.nan
    assert tell_apart(swapped, texts, motions, None) is None


def test_the_table_has_a_column_for_each_kind_of_swap():
    order = ToldApart(num=7, share=0.75, over_recordings=Estimate(0.75, 0.5, 0.9))
    rows = (
        ModelRow(name="real", scores={}, over_recordings={}, told_apart={"order": order}),
        ModelRow(name="ours", scores={}, over_recordings={}),
    )
    text = as_markdown(
        Judgement(protocol="val_composed", judge="j", num_texts=9, num_repeats=1, num_recordings=3, rows=rows)
    )
    assert "|  | order, 7 texts ↑ |" in text
    assert "| real | 75.0 % [50.0 %, 90.0 %] |" in text


def test_one_repeat_does_not_say_how_sure_it_is_and_several_do():
    row = ModelRow(
        name="ours",
        scores={"r_at_1": Estimate(0.5, 0.4, 0.6)},
        over_recordings={},
        planned=1.0,
        planned_error_s=0.2,
        as_long_as_planned=0.75,
    )
    one, three = (
        as_markdown(Judgement(protocol="kit", judge="j", num_texts=9, num_repeats=num, num_recordings=3, rows=(row,)))
        for num in (1, 3)
    )
    assert "| ours | 0.500 |" in one
    assert "±" not in one
    assert "| ours | 0.500 ± 0.100 |" in three
    assert "3 repeats; ± is 1.96 standard deviations" in three
    assert "| ours | 100.0 % | 0.20 | 75.0 % |" in one
