"""What the model in the box does with the demo's sentences."""

import asyncio

import numpy as np
import pytest

from bridge.decoder import Decoder, join
from bridge.demo import PROMPTS
from bridge.request import MotionRequest
from bridge.server import DEFAULT_BUNDLE
from bridge.stream import Chunk, Event, MotionModel, Planned, Summary
from python_core.contract.bundle import open_bundle
from python_core.contract.motion import Motion
from python_core.contract.plan import Plan

HEAD, FEET = 15, (10, 11)
SEEDS = 20
PACE_M_S = 0.54
"""Of a whole motion whose plan says to walk and then to turn: 4 m in 7.4 s."""


@pytest.fixture(scope="module")
def model() -> MotionModel:
    return MotionModel(DEFAULT_BUNDLE, "cpu")


async def _read(model: MotionModel, request: MotionRequest) -> list[Event]:
    return [event async for event in model.perform(request)]


def act(model: MotionModel, prompt: str, seed: int) -> tuple[Plan, Motion]:
    sampling = model.bundle.manifest.sampling
    request = MotionRequest(
        prompt=prompt, seed=seed, reasoning=True, max_codes=50, temperature=sampling.temperature, top_p=sampling.top_p
    )
    events = asyncio.run(_read(model, request))
    assert isinstance(events[0], Planned)
    assert isinstance(events[-1], Summary)
    return events[0].plan, join([event.motion for event in events if isinstance(event, Chunk)])


@pytest.mark.parametrize("prompt", PROMPTS.values())
def test_the_character_stays_upright_on_the_floor_and_its_bones_keep_their_lengths(model: MotionModel, prompt: str):
    _, motion = act(model, prompt, seed=0)
    joints_m = motion.joint_positions_m()
    assert (joints_m[:, HEAD, 1] > joints_m[:, 0, 1] + 0.3).all()
    assert np.abs(joints_m[:, FEET, 1].min(axis=1)).max() < 0.15
    lengths_m = np.linalg.norm(joints_m[:, 1:] - joints_m[:, motion.skeleton.parents[1:]], axis=-1)
    rest_m = np.linalg.norm(motion.skeleton.offsets_m[1:], axis=-1)
    assert np.abs(lengths_m - rest_m).max() < 1e-5


def test_walks_go_the_way_the_character_faces(model: MotionModel):
    at_pace = 0
    for seed in range(SEEDS):
        plan, motion = act(model, PROMPTS["walk_and_turn"], seed)
        # It may say a beat in two.
        assert [*dict.fromkeys(beat.text for beat in plan.beats)] == ["walk forward", "turn around"]
        at_pace += motion.root_positions_m[:, 2].max() / (motion.num_frames / motion.frame_rate_hz) > PACE_M_S
    assert at_pace >= 18


def test_squats_go_down(model: MotionModel):
    down = 0
    for seed in range(SEEDS):
        plan, motion = act(model, PROMPTS["squat"], seed)
        assert "squat" in plan.beats[0].text
        heights_m = motion.root_positions_m[:, 1]
        down += heights_m.min() < 0.7 < 0.85 < heights_m[0]
    assert down >= 15


def test_the_same_seed_gives_the_same_frames_and_another_does_not(model: MotionModel):
    once, again, other = (act(model, PROMPTS["sneak"], seed)[1] for seed in (7, 7, 8))
    assert np.array_equal(once.joint_rotations, again.joint_rotations)
    assert once.num_frames != other.num_frames or not np.array_equal(once.joint_rotations, other.joint_rotations)


def test_its_decoder_streams_what_it_writes_at_once_and_the_same_bits_alone_and_among_63_others():
    manifest = open_bundle(DEFAULT_BUNDLE).manifest
    decoder = Decoder(DEFAULT_BUNDLE, manifest, "cpu")
    codes = np.random.default_rng(1).integers(manifest.tokens.num_codes, size=(64, 12)).tolist()
    states, parts = [decoder.start() for _ in codes], []
    for place in range(12):
        found = decoder.run([[series[place]] for series in codes], states)
        states = [state for _, state in found]
        parts.append([frames for frames, _ in found])
    for row in (0, 63):
        state, streamed = decoder.start(), []
        for place, among in enumerate(parts):
            ((alone, state),) = decoder.run([[codes[row][place]]], [state])
            for name in ("root_positions_m", "joint_rotations", "contacts"):
                assert np.array_equal(getattr(alone, name), getattr(among[row], name))
            streamed.append(decoder.motion(alone, 1))
        whole_m = decoder.decode_whole(codes[row]).joint_positions_m()
        assert join(streamed).joint_positions_m() == pytest.approx(whole_m, abs=1e-5)
