"""Motions on our skeleton within the limits of joints, and a text encoder that has learned nothing."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel

from python_core.contract.motion import Motion, multiply
from python_core.contract.skeleton import BODY_22

# For each joint: the range of its turns about X, Y and Z in radians, the left side; the right is mirrored.
LIMITS = {
    0: ((-0.5, 0.5), (-3.0, 3.0), (-0.3, 0.3)),
    1: ((-1.6, 0.4), (-0.3, 0.3), (-0.2, 0.5)),
    3: ((-0.2, 0.4), (-0.2, 0.2), (-0.2, 0.2)),
    4: ((0.0, 2.2), (0.0, 0.0), (0.0, 0.0)),
    6: ((-0.2, 0.4), (-0.2, 0.2), (-0.2, 0.2)),
    7: ((-0.6, 0.4), (0.0, 0.0), (-0.2, 0.2)),
    9: ((-0.1, 0.2), (-0.2, 0.2), (-0.1, 0.1)),
    12: ((-0.4, 0.4), (0.0, 0.0), (-0.3, 0.3)),
    13: ((0.0, 0.0), (-0.2, 0.2), (-0.1, 0.3)),
    16: ((-0.3, 0.3), (-1.0, 0.3), (-1.4, 0.6)),
    18: ((0.0, 0.0), (-2.0, 0.0), (0.0, 0.0)),
}

MakeMotion = Callable[[NDArray[np.float64]], Motion]


def turn(angles: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    rotations = np.zeros((*angles.shape, 4))
    rotations[..., axis], rotations[..., 3] = np.sin(angles / 2), np.cos(angles / 2)
    return rotations


@pytest.fixture(scope="session")
def posed() -> MakeMotion:
    """Makes a motion from places within each joint's limits, 0 to 1, [F, J, 3]; the root goes along a curve."""

    def make(places: NDArray[np.float64]) -> Motion:
        num_frames = len(places)
        rotations = np.tile(np.array([0.0, 0, 0, 1]), (num_frames, 22, 1))
        for left, limits in LIMITS.items():
            for joint in {left, BODY_22.mirror_joints[left]}:
                side = np.array([1.0, 1, 1]) if joint == left else np.array([1.0, -1, -1])
                low, high = np.array(limits).T
                angles = side * (low + (high - low) * places[:, joint])
                about_x, about_y, about_z = (turn(angles[:, axis], axis) for axis in range(3))
                rotations[:, joint] = multiply(about_y, multiply(about_z, about_x))
        time_s = np.arange(num_frames) / 20
        root_m = np.stack([0.3 * np.sin(time_s), 0.9 + 0.05 * np.cos(3 * time_s), 0.8 * time_s], axis=-1)
        contacts = np.zeros((num_frames, 4), dtype=np.bool_)
        return Motion(root_m.astype(np.float32), rotations.astype(np.float32), contacts, 20.0)

    return make


@pytest.fixture(scope="session")
def random_poses(posed: MakeMotion) -> Motion:
    """300 poses that have nothing to do with each other."""
    return posed(np.random.default_rng(11).random((300, 22, 3)))


@pytest.fixture(scope="session")
def smooth_motions(posed: MakeMotion) -> list[Motion]:
    """Twelve motions of 6 seconds in which every joint swings between its limits, at its own pace."""
    random = np.random.default_rng(12)
    time_s = np.arange(120)[:, None, None] / 20
    motions = []
    for _ in range(12):
        hz, phase = random.uniform(0.1, 0.6, (22, 3)), random.uniform(0, 2 * np.pi, (22, 3))
        motions.append(posed(0.5 + 0.5 * np.sin(2 * np.pi * hz * time_s + phase)))
    return motions


ENCODER_WORDS = "a and bows forward hand left person someone the then walks waves"


def write_text_encoder(folder: Path, words: Iterable[str]) -> None:
    """A text encoder of the usual form that knows these words, with states of 16 numbers, and has learned nothing."""
    vocabulary = {word: number for number, word in enumerate(["[UNK]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(2)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    BertModel(config).save_pretrained(folder)


@pytest.fixture(scope="session")
def text_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that knows `ENCODER_WORDS`."""
    folder = tmp_path_factory.mktemp("text_encoder")
    write_text_encoder(folder, ENCODER_WORDS.split())
    return folder
