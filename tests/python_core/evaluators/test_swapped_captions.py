import pytest

from python_core.evaluators.swapped_captions import swap_order, swap_sides


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
