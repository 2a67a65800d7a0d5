"""The nearest beat that there is a motion for."""

from pathlib import Path

import pytest
import torch

from python_core.contract.plan import Beat
from python_core.evaluators.token_states import TokenStates, load_token_states
from python_core.reasoning.known_beats import KnownBeats
from tests.python_core.conftest import write_text_encoder

WORDS = "wave with the left right hand walk forward backward sit down up stand turn clockwise counterclockwise"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TokenStates:
    folder: Path = tmp_path_factory.mktemp("encoder")
    write_text_encoder(folder, WORDS.split())
    return load_token_states(folder, torch.device("cpu"))


def test_a_known_beat_is_nearest_to_itself_and_keeps_its_body_parts(encoder: TokenStates):
    beats = [Beat("walk forward", 1.0), Beat("wave with the left hand", 2.0, ("left hand",)), Beat("sit down", 1.5)]
    found = list(KnownBeats(beats, encoder).nearest([beat.text for beat in beats]))
    assert [one.beat for one in found] == beats
    assert [one.similarity for one in found] == pytest.approx([1.0] * 3, abs=1e-5)


@pytest.mark.parametrize(
    ("known", "asked"),
    [
        ("wave with the left hand", "wave with the right hand"),
        ("wave with the left hand", "wave with the hand"),
        ("walk backward", "walk forward"),
        ("turn clockwise", "turn counterclockwise"),
        ("turn clockwise", "turn counter - clockwise"),
        ("turn clockwise", "turn anti-clockwise"),
        ("turn", "turn anticlockwise"),
        ("sit up", "sit down"),
        ("stand down", "stand upwards"),
    ],
)
def test_another_side_or_direction_is_never_near(encoder: TokenStates, known: str, asked: str):
    for one, other in ((known, asked), (asked, known)):
        (found,) = KnownBeats([Beat(one, 1.0)], encoder).nearest([other])
        assert found.similarity == -1


@pytest.mark.parametrize("way", ["counter - clockwise", "counter clockwise", "anti-clockwise", "anticlockwise"])
def test_counterclockwise_is_one_direction_however_it_is_written(encoder: TokenStates, way: str):
    (found,) = KnownBeats([Beat("turn counterclockwise", 1.0)], encoder).nearest([f"turn {way}"])
    assert found.similarity > 0


def test_up_and_down_may_be_left_out(encoder: TokenStates):
    (found,) = KnownBeats([Beat("stand", 1.0)], encoder).nearest(["stand up"])
    assert found.similarity > 0
    assert list(KnownBeats([Beat("stand", 1.0)], encoder).nearest([])) == []
