"""Tiny real clips, checkpoints and bundles, made with the real code, once for all workers of a run."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from numpy.typing import NDArray
from tokenizers import Tokenizer

from export import bundle_writer
from export.bundle_writer import export_bundle
from export.config import ExportConfig
from python_core.clips.prepared import PreparedClip, write_prepared
from python_core.contract.bundle import Manifest, MotionDecoderGraph, open_bundle
from python_core.contract.motion import Motion
from python_core.contract.skeleton import BODY_22
from python_core.features import canonical_joints, exact_features
from python_core.stages import build_reasoning, prepare, train_sft, train_vqvae

FRAME_RATE_HZ = 20.0
NUM_FRAMES = 64
CAPTIONS = {
    "walk": ("a person walks forward.", "someone walks straight ahead."),
    "circle": ("a person walks in a circle to the left.", "someone walks around in a circle."),
    "squat": ("a person does a squat.", "someone squats down and stands up again."),
    "wave": ("a person waves the right hand.", "someone waves with the right arm."),
}

MOVES = {
    (12, 0, 0.4): "a person nods.",
    (3, 0, 0.5): "a man bows.",
    (12, 1, 0.6): "a person looks to the left.",
    (12, 2, 0.4): "a person tilts the head.",
    (3, 1, 0.4): "someone twists to the right.",
}
"""Joint, axis and angle of what moves, and what is said: clips that begin and end at rest, so that they go together."""

FIRST = ("export/test_bundle_writer.py", "python_core", "unity_client")
"""Tests that come before all others: one worker makes the tiny bundle while the other has tests that need none. Those
that take longest are next, so that no core is idle at the end.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def turn_of(item: pytest.Item) -> int:
        path = item.path.relative_to(Path(__file__).parent).as_posix()
        return next((place for place, first in enumerate(FIRST) if path.startswith(first)), len(FIRST))

    items.sort(key=turn_of)


def turn(axis: tuple[float, float, float], angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quaternions that turn about an axis by angles in radians, [F] -> [F, 4]."""
    return np.concatenate([np.sin(angles / 2)[:, None] * axis, np.cos(angles / 2)[:, None]], axis=1)


def make_motion(kind: str, num_frames: int = NUM_FRAMES) -> Motion:
    """A motion that is known by formula: `walk`, `circle`, `squat` or `wave`, at 20 frames a second."""
    time_s = np.arange(num_frames) / FRAME_RATE_HZ
    rotations = np.tile(np.array([0.0, 0.0, 0.0, 1.0]), (num_frames, 22, 1))
    root_m = np.zeros((num_frames, 3))
    root_m[:, 1] = BODY_22.rest_root_height_m
    # Arms hang.
    rotations[:, 16] = turn((0, 0, 1), np.full(num_frames, -1.3))
    rotations[:, 17] = turn((0, 0, 1), np.full(num_frames, 1.3))
    swing = 0.5 * np.sin(2 * np.pi * time_s)
    if kind in ("walk", "circle"):
        rotations[:, 1], rotations[:, 2] = turn((1, 0, 0), -swing), turn((1, 0, 0), swing)
        rotations[:, 4], rotations[:, 5] = (turn((1, 0, 0), 0.4 + 0.3 * sign * swing) for sign in (1, -1))
    if kind == "walk":
        root_m[:, 2] = 1.2 * time_s
    elif kind == "circle":
        yaw = 2 * np.pi * np.arange(num_frames) / num_frames
        rotations[:, 0] = turn((0, 1, 0), yaw)
        # A circle to the left, of 1 m radius; facing along it.
        root_m[:, 0], root_m[:, 2] = 1 - np.cos(yaw), np.sin(yaw)
    elif kind == "squat":
        bend = 0.6 * (1 - np.cos(2 * np.pi * time_s / time_s[-1]))
        for side in (1, 2):
            rotations[:, side] = turn((1, 0, 0), -bend)
            rotations[:, side + 3] = turn((1, 0, 0), 2 * bend)
            rotations[:, side + 6] = turn((1, 0, 0), -bend)
        root_m[:, 1] -= (0.3919 + 0.4290) * (1 - np.cos(bend))
    elif kind == "wave":
        rotations[:, 17] = turn((0, 0, 1), np.full(num_frames, -0.9))
        rotations[:, 19] = turn((0, 1, 0), 0.8 + swing)
    contacts = np.ones((num_frames, 4), dtype=np.bool_)
    return Motion(root_m.astype(np.float32), rotations.astype(np.float32), contacts, FRAME_RATE_HZ)


def moved(joint: int, axis: int, angle: float, num_frames: int) -> NDArray[np.float32]:
    """Features of a body at rest with hanging arms, of which one joint turns and comes back, at 20 frames a second.

    Args:
        joint: Which turns.
        axis: Of the turn: 0, 1 or 2.
        angle: At most, radians.
        num_frames: Length of the motion.

    Returns:
        [num_frames - 1, 263]
    """
    time = np.linspace(0, np.pi, num_frames)
    rotations = np.tile(np.array([0.0, 0, 0, 1]), (num_frames, 22, 1))
    for arm, side in ((16, -1), (17, 1)):
        rotations[:, arm, 2], rotations[:, arm, 3] = side * np.sin(0.65), np.cos(0.65)
    half = angle * np.sin(time) ** 2 / 2 + (0.65 if joint == 17 else -0.65 if joint == 16 else 0) * np.ones(num_frames)
    half = half - (angle * np.sin(time) ** 2 if joint in (16, 17) else 0)
    rotations[:, joint] = 0
    rotations[:, joint, axis], rotations[:, joint, 3] = np.sin(half), np.cos(half)
    root_m = np.tile([0.0, BODY_22.rest_root_height_m, 0.0], (num_frames, 1))
    contacts = np.ones((num_frames, 4), dtype=np.bool_)
    motion = Motion(root_m.astype(np.float32), rotations.astype(np.float32), contacts, FRAME_RATE_HZ)
    return exact_features(canonical_joints(motion.joint_positions_m()), FRAME_RATE_HZ)


def write_clips(folder: Path, clips: Sequence[tuple[NDArray[np.float32], dict[str, Any]]]) -> None:
    """Write what `prepare` would: features of clips, at 20 frames a second, with the fields of `PreparedClip`; fields
    that are left out are those of a val clip that was made here.
    """
    made: dict[str, Any] = {"split": "val", "source": "made", "licence": "CC0-1.0", "take": "", "plan": None}
    records, first = list[PreparedClip](), 0
    for rows, fields in clips:
        values: dict[str, Any] = made | fields | {"first_row": first, "num_rows": len(rows)}
        records.append(PreparedClip(**values))
        first += len(rows)
    write_prepared(folder, records, [rows for rows, _ in clips], FRAME_RATE_HZ)


@pytest.fixture(scope="session")
def clips_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight clips in the HumanML3D layout: four kinds at two lengths, one of each in val."""
    folder = tmp_path_factory.mktemp("humanml3d")
    for name in ("new_joints", "texts"):
        (folder / name).mkdir()
    splits: dict[str, list[str]] = {"train": [], "val": []}
    for number, (kind, captions) in enumerate(CAPTIONS.items()):
        for split, num_frames in (("train", NUM_FRAMES), ("val", NUM_FRAMES - 12)):
            clip_id = f"{number:05}{len(splits[split])}{split[0]}"
            np.save(folder / "new_joints" / f"{clip_id}.npy", make_motion(kind, num_frames).joint_positions_m())
            lines = [f"{caption}#{caption}#0.0#0.0" for caption in captions]
            (folder / "texts" / f"{clip_id}.txt").write_text("\n".join(lines) + "\n")
            splits[split].append(clip_id)
    for split, clip_ids in splits.items():
        (folder / f"{split}.txt").write_text("\n".join(clip_ids) + "\n")
    rows = [f"{clip_id},made,CC0-1.0" for clip_ids in splits.values() for clip_id in clip_ids]
    (folder / "licences.csv").write_text("\n".join(["id,source,licence", *rows]) + "\n")
    return folder


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first of all workers makes while the others wait."""
    folder = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # Of the whole run.
    done = folder / f"{name}.done"
    with FileLock(folder / f"{name}.lock"):
        if not done.exists():
            make(folder / name)
            done.touch()
    return folder / name


@pytest.fixture(scope="session")
def prepared_folder(clips_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = replace(prepare.PRESETS["tiny"], clips=(clips_folder,))
    return made_once(tmp_path_factory, "prepared", lambda out: prepare.run(replace(config, out=out)))


@pytest.fixture(scope="session")
def tiny_vqvae(prepared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = replace(train_vqvae.PRESETS["tiny"], prepared=prepared_folder)
    return made_once(tmp_path_factory, "vqvae", lambda out: train_vqvae.run(replace(config, out=out)))


@pytest.fixture(scope="session")
def tiny_plans(prepared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("plans") / "plans.jsonl"
    build_reasoning.run(replace(build_reasoning.PRESETS["tiny"], prepared=prepared_folder, out=out))
    return out


@pytest.fixture(scope="session")
def tiny_checkpoint(
    prepared_folder: Path, tiny_vqvae: Path, tiny_plans: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    config = replace(train_sft.PRESETS["tiny"], prepared=prepared_folder, vqvae=tiny_vqvae, plans=tiny_plans)
    return made_once(tmp_path_factory, "sft", lambda out: train_sft.run(replace(config, out=out)))


@pytest.fixture(scope="session")
def tiny_bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a model that has learned its few captions by heart. Tests copy it before they change it."""
    config = ExportConfig(licence="CC0-1.0", parity_tokens=100)
    return made_once(tmp_path_factory, "bundle", lambda out: export_bundle(tiny_checkpoint, out, config))


@pytest.fixture(scope="session")
def manifest(tiny_bundle: Path) -> Manifest:
    return open_bundle(tiny_bundle).manifest


@pytest.fixture
def decoder_of_the_tiny_bundle(tiny_bundle: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets exports take the motion decoder of the tiny bundle, since it takes longest to write."""

    def copy(_decoder: object, _precision: str, bundle: Path, *_: object) -> MotionDecoderGraph:
        shutil.copy(tiny_bundle / manifest.motion_decoder.file, bundle)
        return manifest.motion_decoder

    monkeypatch.setattr(bundle_writer, "write_motion_decoder_graph", copy)


@pytest.fixture(scope="session")
def tokenizer(tiny_bundle: Path) -> Tokenizer:
    return Tokenizer.from_file(str(tiny_bundle / "tokenizer.json"))


@dataclass(frozen=True)
class Addresses:
    """Where a bridge listens."""

    grpc_address: str
    """HOST:PORT"""
    web_address: str
    """http://HOST:PORT"""


@pytest.fixture(scope="session")
def tiny_bridge(tiny_bundle: Path) -> Iterator[Addresses]:
    """A bridge that serves the tiny bundle, as a process of its own."""
    command = [sys.executable, "-m", "bridge", "serve", str(tiny_bundle), "--port", "0", "--web-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"gRPC ([\d.]+:\d+), gRPC-Web (http://[\d.]+:\d+)", line)
            assert found, f"the bridge did not start: {line!r}"
            yield Addresses(*found.groups())
        finally:
            process.terminate()
            process.wait(timeout=20)
