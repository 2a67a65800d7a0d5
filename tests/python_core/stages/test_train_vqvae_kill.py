"""A killed `train-vqvae` goes on, and ends in what an undisturbed run ends in."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from python_core.clips.preparation import one_thread
from python_core.stages import train_vqvae

DieAtFiles = Callable[[str, str, Path, list[tuple[Path, int]]], int]

ROOT = Path(__file__).parents[3]
RECORDED = ROOT / "tests" / "recorded" / "train_vqvae.json"
"""Losses of the undisturbed run when it was recorded, but for the commitment, which a code that falls the other way
changes most.
"""

IMPORTS = """import torch
from python_core.stages import train_vqvae
torch.set_num_threads(1)"""
WORK = (
    'train_vqvae.run(replace(train_vqvae.PRESETS["tiny"], prepared=Path(reads), out=Path(out), steps=6, save_every=2))'
)
NEVER = 10**9


def contents(folder: Path) -> dict[str, object]:
    """What a run leaves, without the time that its steps took, and without what only goes on."""
    found: dict[str, object] = {
        name: (folder / name).read_bytes() for name in ("model.safetensors", "measures.json", "reconstructions.png")
    }
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    found["metrics"] = [{name: value for name, value in line.items() if name != "time_s"} for line in lines]
    assert not list(folder.glob("*.partial"))
    return found


@pytest.fixture(scope="module")
def undisturbed(
    die_at_files: DieAtFiles, prepared_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, object]:
    out = tmp_path_factory.mktemp("undisturbed")
    assert die_at_files(IMPORTS, WORK, prepared_folder, [(out, NEVER)]) == 1
    return contents(out)


def test_a_run_that_dies_at_ever_later_files_ends_in_the_same_bytes(
    die_at_files: DieAtFiles, prepared_folder: Path, undisturbed: dict[str, object], tmp_path: Path
):
    limits = [1, 4, 9, 16, NEVER]
    assert die_at_files(IMPORTS, WORK, prepared_folder, [(tmp_path / "out", limit) for limit in limits]) < len(limits)
    assert contents(tmp_path / "out") == undisturbed


def test_an_undisturbed_run_has_the_recorded_losses(undisturbed: dict[str, list[dict[str, float]]]):
    for line, recorded in zip(undisturbed["metrics"], json.loads(RECORDED.read_text()), strict=True):
        assert {name: line[name] for name in recorded} == pytest.approx(recorded, rel=0.002)


def test_a_run_in_slices_ends_in_the_same_bytes(prepared_folder: Path, undisturbed: dict[str, object], tmp_path: Path):
    config = replace(train_vqvae.PRESETS["tiny"], prepared=prepared_folder, out=tmp_path, steps=6, save_every=2)
    with one_thread():
        for _ in range(6):
            assert not (tmp_path / "measures.json").exists()
            # Over after its first step.
            train_vqvae.run(replace(config, stop_after_s=0.0))
    assert contents(tmp_path) == undisturbed


@pytest.mark.slow
def test_a_run_that_dies_at_any_file_ends_in_the_same_bytes(
    die_at_files: DieAtFiles, prepared_folder: Path, undisturbed: dict[str, object], tmp_path: Path
):
    num_died = 0
    for limit in range(1, 200):
        out = tmp_path / str(limit)
        num_done = die_at_files(IMPORTS, WORK, prepared_folder, [(out, limit), (out, NEVER)])
        assert contents(out) == undisturbed, limit
        if num_done == 2:
            break
        num_died += 1
    assert 15 < num_died < 199


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_run_that_is_killed_at_a_random_moment_ends_in_the_same_bytes(
    prepared_folder: Path, tmp_path: Path, seed: int
):
    command = [sys.executable, "-m", "python_core", "train-vqvae", "tiny", "--prepared", str(prepared_folder)]
    command += ["--save-every", "2", "--out"]
    killed, straight = str(tmp_path / "killed"), str(tmp_path / "straight")
    with subprocess.Popen([*command, killed], cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and not Path(killed, "training.pt").is_file():
            time.sleep(0.01)
        time.sleep(random.Random(seed).random())
        process.kill()
    for out in (killed, straight):
        subprocess.run([*command, out], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    assert contents(Path(killed)) == contents(Path(straight))
