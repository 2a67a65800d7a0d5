import pytest

from python_core.evaluators.swapped_captions import has_order, reverse_order, swap_order, swap_sides


@pytest.mark.parametrize(
    ("caption", "swapped"),
    [
        ("a person walks forward and then sits down.", "a person sits down and then walks forward."),
        ("someone waves, then bows", "someone bows, then waves"),
        ("he turns, then jumps, then waves.", "he waves, then jumps, then turns."),
        ("a person jumps before sitting down.", "a person jumps after sitting down."),
        ("after waving, a person bows", "before waving, a person bows"),
        ("walking and then sitting.", "sitting and then walking."),
        (
            "a person squats, after that jumps and finally waves.",
            "a person waves, after that jumps and finally squats.",
        ),
    ],
)
def test_actions_change_places(caption: str, swapped: str):
    assert swap_order(caption) == swapped


@pytest.mark.parametrize(
    "caption",
    [
        "a person walks forward and waves.",
        "someone squats, then squats",
        "",
        "a person waves after a while",
        "then sits",
    ],
)
def test_what_has_no_order_is_left_alone(caption: str):
    assert swap_order(caption) is None


def test_swapping_the_order_twice_gives_the_caption_back():
    for caption in (
        "a person walks and then sits down.",
        "someone bows before waving",
        "he turns, then jumps, then waves",
    ):
        swapped = swap_order(caption)
        assert swapped is not None
        assert swap_order(swapped) == caption


def test_sides_change_unless_both_are_named_as_equals():
    assert swap_sides("a person turns left.") == "a person turns right."
    assert swap_sides("walks in a clockwise circle") == "walks in a counterclockwise circle"
    assert swap_sides("raises the left arm, then the right leg") == "raises the right arm, then the left leg"
    assert swap_sides("a person waves") is None
    assert swap_sides("a person raises the left and right arms") is None
    assert swap_sides("steps to the left and the right") is None
    assert swap_sides("waves the hand from left to right") is None
    assert swap_sides("sways left to right and back") is None
    assert swap_sides("steps from the right side to their left side") is None
    # One hand meets the other knee: exchanged, that is something else.
    assert swap_sides("brings the left elbow to the right knee") == "brings the right elbow to the left knee"


@pytest.mark.parametrize(
    ("caption", "num_actions", "reversed_caption"),
    [
        ("a person walks and then sits.", 2, "a person sits and then walks."),
        ("a person walks before sitting", 2, "a person walks after sitting"),
        ("a person walks, then sits and finally waves", 3, "a person waves, then sits and finally walks"),
        # "walks, sits" would stay as they are.
        ("a person walks, sits and then waves", 3, None),
        ("after walking, a person sits and then waves", 3, None),
        ("a person walks and then sits before waving", 3, None),
        # An action that has an order of its own.
        ("a person jumps before turning, then sits", 2, None),
        ("a person walks before sitting", 3, None),
        ("a person walks while waving", 2, None),
    ],
)
def test_an_order_is_reversed_only_where_that_is_certain(caption: str, num_actions: int, reversed_caption: str | None):
    assert reverse_order(caption, num_actions) == reversed_caption


def test_what_has_an_order_of_its_own_is_told():
    assert has_order("jump before turning")
    assert has_order("jump and then turn")
    assert not has_order("squat and stand back up")
