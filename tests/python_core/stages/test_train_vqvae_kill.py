"""A killed `train-vqvae` goes on, and ends in what an undisturbed run ends in."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

# Trains in a process of its own for each OUT and LIMIT, which dies at its operation LIMIT on a file below OUT, and
# prints how many came to their end.
DIE_AT_FILES = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path

import torch

from python_core.stages import train_vqvae

EVENTS = {"open", "os.rename", "os.mkdir"}
prepared, *tries = sys.argv[1:]
num_done = 0


def attempt(out, limit):
    seen = 0

    def watch(event, arguments):
        nonlocal seen
        if event in EVENTS and str(arguments[0]).startswith(out):
            seen += 1
            if seen == limit:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    torch.set_num_threads(1)
    train_vqvae.run(replace(train_vqvae.PRESETS["tiny"], prepared=Path(prepared), out=Path(out), steps=6, save_every=2))


for out, limit in zip(tries[::2], map(int, tries[1::2]), strict=True):
    child = os.fork()
    if child == 0:
        attempt(out, limit)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
        sys.exit(f"{out} {limit}: failed")
    num_done += os.WIFEXITED(status)
print(num_done)
"""
NEVER = 10**9


def train(prepared: Path, tries: list[tuple[Path, int]]) -> int:
    """How many of the tries came to their end."""
    arguments = [str(word) for one in tries for word in one]
    command = [sys.executable, "-c", DIE_AT_FILES, str(prepared), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1])


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
def undisturbed(prepared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    out = tmp_path_factory.mktemp("undisturbed")
    assert train(prepared_folder, [(out, NEVER)]) == 1
    return contents(out)


def test_a_run_that_dies_at_ever_later_files_ends_in_the_same_bytes(
    prepared_folder: Path, undisturbed: dict[str, object], tmp_path: Path
):
    limits = [1, 4, 9, 16, NEVER]
    assert train(prepared_folder, [(tmp_path / "out", limit) for limit in limits]) < len(limits)
    assert contents(tmp_path / "out") == undisturbed


@pytest.mark.slow
def test_a_run_that_dies_at_any_file_ends_in_the_same_bytes(
    prepared_folder: Path, undisturbed: dict[str, object], tmp_path: Path
):
    num_died = 0
    for limit in range(1, 200):
        out = tmp_path / str(limit)
        num_done = train(prepared_folder, [(out, limit), (out, NEVER)])
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
