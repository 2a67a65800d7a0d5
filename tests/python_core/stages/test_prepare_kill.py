"""A killed `prepare` goes on, and ends in the bytes of an undisturbed one."""

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from python_core.stages import prepare

DieAtFiles = Callable[[str, str, Path, list[tuple[Path, int]]], int]
ROOT = Path(__file__).parents[3]

IMPORTS = "from python_core.stages import prepare"
WORK = 'prepare.run(replace(prepare.PRESETS["tiny"], clips=(Path(reads),), out=Path(out), sheet_clips=1))'
NEVER = 10**9
MOST_OPERATIONS = 80
"""More than a run on the tiny corpus needs."""


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def many_clips(clips_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clips of the tiny corpus nine times over, so that there are several shards."""
    folder = shutil.copytree(clips_folder, tmp_path_factory.mktemp("many") / "clips")
    ids = (folder / "train.txt").read_text().split()
    for number in range(8):
        for clip_id in ids:
            shutil.copy(folder / "new_joints" / f"{clip_id}.npy", folder / "new_joints" / f"c{number}_{clip_id}.npy")
            shutil.copy(folder / "texts" / f"{clip_id}.txt", folder / "texts" / f"c{number}_{clip_id}.txt")
    more = [f"c{number}_{clip_id}" for number in range(8) for clip_id in ids]
    (folder / "train.txt").write_text("\n".join([*ids, *more]) + "\n")
    return folder


@pytest.fixture(scope="module")
def undisturbed(many_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed")
    prepare.run(replace(prepare.PRESETS["tiny"], clips=(many_clips,), out=out))
    return contents(out)


def kill_at_random_moments(clips: Path, out: Path, num_kills: int, seed: int) -> None:
    """Kill as often, or until it is done, each time soon after the run has written something; let a run finish."""
    moments = random.Random(seed)
    command = [sys.executable, "-m", "python_core", "prepare", "tiny", "--clips", str(clips), "--out", str(out)]
    for _ in range(num_kills):
        if (out / "prepared.json").is_file():
            break
        before = sorted(out.rglob("*"))
        with subprocess.Popen([*command, "--workers", "2"], cwd=ROOT, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None and sorted(out.rglob("*")) == before:
                time.sleep(0.01)
            time.sleep(moments.random() * 0.2)
            process.kill()
    prepare.run(replace(prepare.PRESETS["tiny"], clips=(clips,), out=out))


@pytest.mark.slow
def test_a_run_that_is_killed_at_random_moments_ends_in_the_same_bytes(
    many_clips: Path, undisturbed: dict[str, bytes], tmp_path: Path
):
    kill_at_random_moments(many_clips, tmp_path / "out", num_kills=2, seed=1)
    assert contents(tmp_path / "out") == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_run_that_is_killed_often_ends_in_the_same_bytes(
    many_clips: Path, undisturbed: dict[str, bytes], tmp_path: Path, seed: int
):
    kill_at_random_moments(many_clips, tmp_path / "out", num_kills=8, seed=seed)
    assert contents(tmp_path / "out") == undisturbed


@pytest.fixture(scope="module")
def undisturbed_tiny(clips_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed_tiny")
    prepare.run(replace(prepare.PRESETS["tiny"], clips=(clips_folder,), out=out, sheet_clips=1))
    return contents(out)


def test_a_run_that_dies_at_ever_later_files_ends_in_the_same_bytes(
    die_at_files: DieAtFiles, clips_folder: Path, undisturbed_tiny: dict[str, bytes], tmp_path: Path
):
    limits = [1, 2, 3, 5, 8, 13, 21, 34, 55, NEVER]
    num_done = die_at_files(IMPORTS, WORK, clips_folder, [(tmp_path / "out", limit) for limit in limits])
    assert 1 <= num_done < 5
    assert contents(tmp_path / "out") == undisturbed_tiny


@pytest.mark.slow
def test_a_run_that_dies_at_any_file_ends_in_the_same_bytes(
    die_at_files: DieAtFiles, clips_folder: Path, undisturbed_tiny: dict[str, bytes], tmp_path: Path
):
    limits = range(1, MOST_OPERATIONS)
    tries = [(tmp_path / str(first), limit) for first in limits for limit in (first, NEVER)]
    num_killed = len(tries) - die_at_files(IMPORTS, WORK, clips_folder, tries)
    # Each file of the result and of the shards is opened and renamed; the last limits are beyond all operations.
    assert 20 < num_killed < len(limits)
    for limit in limits:
        assert contents(tmp_path / str(limit)) == undisturbed_tiny, f"killed at operation {limit}"
