import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from python_core.contract.plan import (
    BODY_PARTS,
    MAX_BEATS,
    Beat,
    Plan,
    PlanError,
    format_plan,
    parse_plan,
    planned_codes,
)


def is_beat_text(text: str) -> bool:
    try:
        Beat(text, 1.0)
    except PlanError:
        return False
    return True


# Close to the syntax, so that the texts that are allowed come near to what ends a beat.
TEXTS = st.one_of(
    st.text("abz0129., ()s<>-", min_size=1, max_size=24), st.text(min_size=1, max_size=24), st.just("2. walk, 1.0 s")
).filter(is_beat_text)
BEATS = st.builds(
    Beat,
    TEXTS,
    st.integers(1, 600).map(lambda tenths: tenths / 10),
    st.lists(st.sampled_from(BODY_PARTS), max_size=3).map(tuple),
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(BEATS, min_size=1, max_size=MAX_BEATS))
def test_a_plan_comes_back_from_its_text(beats: list[Beat]):
    plan = Plan(tuple(beats))
    assert parse_plan(format_plan(plan)) == plan


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text("12. walk(left arm), 0s\n", max_size=60))
def test_any_text_is_a_plan_that_writes_back_as_itself_or_a_plan_error(text: str):
    try:
        plan = parse_plan(text)
    except PlanError:
        return
    assert format_plan(plan) == text.strip()


def test_a_plan_is_written_as_the_model_writes_it():
    plan = Plan((Beat("walk forward", 2.0), Beat("wave", 1.64, ("right arm", "head"))))
    assert format_plan(plan) == "1. walk forward, 2.0 s 2. wave (right arm, head), 1.6 s"
    assert plan.duration_s == pytest.approx(3.64)


def test_commas_digits_and_colons_are_part_of_a_beats_text():
    plan = parse_plan("1. walk 3 steps, slowly, 2.5: then stop, 1.5 s")
    assert plan == Plan((Beat("walk 3 steps, slowly, 2.5: then stop", 1.5),))


def test_white_space_around_a_plan_does_not_count():
    assert parse_plan("\n 1. walk, 2.0 s \n") == Plan((Beat("walk", 2.0),))


MALFORMED = {
    "": "1 to 5 beats, got 0",
    "walk": "expected '1. what is done, 1.0 s', got 'walk'",
    "1. walk": "got '1. walk'",
    "1. walk, 2 s": "got '1. walk, 2 s'",
    "1. walk, 2.00 s": "got '1. walk, 2.00 s'",
    "1. walk, 2.0 seconds": "got '1. walk, 2.0 seconds'",
    "1.walk, 2.0 s": "got '1.walk, 2.0 s'",
    "1. , 2.0 s": "got '1. , 2.0 s'",
    "1. walk, -2.0 s": "got '1. walk, -2.0 s'",
    "2. walk, 2.0 s": "expected beat 1, got beat 2",
    "01. walk, 2.0 s": "expected beat 1, got beat 01",
    "1. walk, 2.0 s 3. turn, 1.0 s": "expected beat 2, got beat 3",
    "1. walk, 2.0 s 1. turn, 1.0 s": "expected beat 2, got beat 1",
    "9" * 5000 + ". walk, 2.0 s": "expected beat 1, got beat 9",
    "1. walk, 2.0 s turn, 1.0 s": "cannot hold ', 2.0 s'",
    "1. walk, 2.0 s 2. turn": "got",
    "1. walk, 0.0 s": "0.1 to 60 seconds, got 0.0",
    "1. walk, 60.1 s": "0.1 to 60 seconds, got 60.1",
    "1. walk, " + "9" * 400 + ".0 s": "0.1 to 60 seconds, got inf",
    "1. walk  on, 2.0 s": "single spaces, got 'walk  on'",
    "1. walk (tail), 2.0 s": "unknown body parts ['tail']; known are head, torso",
    "1. walk (head,torso), 2.0 s": "unknown body parts ['head,torso']",
    "1. walk (), 2.0 s": "cannot hold '('",
    "1. walk (head) (torso), 2.0 s": "cannot hold '('",
    "1. walk <b>, 2.0 s": "cannot hold '<'",
    "1. walk\n2. turn, 2.0 s": "got '1. walk\\n2. turn, 2.0 s'",
    " ".join(f"{number}. walk, 1.0 s" for number in range(1, 7)): "1 to 5 beats, got 6",
}


@pytest.mark.parametrize("text", MALFORMED, ids=lambda text: text[:30])
def test_reasoning_that_is_not_a_plan_is_refused_and_the_error_says_where(text: str):
    with pytest.raises(PlanError) as caught:
        parse_plan(text)
    assert MALFORMED[text] in str(caught.value)


@pytest.mark.parametrize("duration_s", [float("nan"), float("inf"), 0.04, 60.06, -1.0])
def test_a_beat_that_would_not_be_read_back_is_refused(duration_s: float):
    with pytest.raises(PlanError, match=r"0\.1 to 60 seconds"):
        Beat("walk", duration_s)


@pytest.mark.parametrize(
    ("duration_s", "codes"), [(2.0, (9, 10)), (1.4, (6, 7)), (1.1, (5, 6)), (0.3, (1, 1)), (0.1, (1, 1))]
)
def test_a_motion_has_the_codes_that_its_plans_seconds_come_to_or_one_less(duration_s: float, codes: tuple[int, int]):
    assert planned_codes(Plan((Beat("walk", duration_s),)), 0.2) == codes
