"""The checkpoint that the default bundle was made of: runs go on from it."""

import json
from pathlib import Path

import numpy as np
import pytest

from export.source import Source, read_source
from python_core.checkpoint import codebook_sha256
from python_core.contract.bundle import sha256
from python_core.evaluation.generation import Prompt, Sampling, generate
from python_core.features import canonical_joints, exact_features
from python_core.motion_tokenizer import MotionTokenizer
from tests.conftest import FRAME_RATE_HZ, make_motion

CHECKPOINT = Path(__file__).parents[1] / "checkpoints" / "default"


@pytest.fixture(scope="module")
def source() -> Source:
    return read_source(CHECKPOINT)


@pytest.mark.parametrize(("kind", "most_m"), [("walk", 0.08), ("squat", 0.08)])
def test_its_tokenizer_gives_motions_back_that_it_never_saw(kind: str, most_m: float):
    features = exact_features(canonical_joints(make_motion(kind).joint_positions_m()), FRAME_RATE_HZ)
    reading = MotionTokenizer.load(CHECKPOINT / "vqvae").read_back(features)
    assert reading.joint_error_m < most_m
    assert len({*reading.codes}) > 5


def test_its_language_model_plans_what_is_said_and_walks_the_way_it_faces(source: Source):
    sampling = Sampling(temperature=0.0, constrained=True, max_codes=25)
    (reply,) = generate(
        source.language_model, source.tokenizer, source.tokens, [Prompt("a person walks forward")], sampling, 0
    )
    (motion,) = source.motion_decoder.motions([reply.codes], source.frame_rate_hz)
    assert reply.parsed is not None
    assert "walk" in source.tokenizer.decode(reply.parsed.reasoning_ids or [])
    assert motion.root_positions_m[-1, 2] > 1.0
    assert np.abs(motion.root_positions_m[:, 0]).max() < 1.0


def test_it_notes_its_tokenizers():
    noted = json.loads((CHECKPOINT / "checkpoint.json").read_text(encoding="utf-8"))
    assert noted["tokenizer_sha256"] == sha256(CHECKPOINT / "language_model" / "tokenizer.json")
    assert noted["codebook_sha256"] == codebook_sha256(CHECKPOINT / "vqvae")


def test_it_names_every_licence(source: Source):
    for word in ("CC BY 4.0 (100STYLE", "CC BY-SA 3.0 (HDM05", "CMU mocap", "CC0 1.0", "mocap.cs.cmu.edu"):
        assert word in source.data_notice
