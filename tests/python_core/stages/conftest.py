"""Runs that die, and runs of several processes."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from python_core.clips.prepared import read_prepared
from python_core.stages.train_evaluator import PRESETS, TrainEvaluatorConfig
from tests.python_core.conftest import write_text_encoder

ROOT = Path(__file__).parents[3]

# Does the work in a process of its own for each OUT and LIMIT, which dies at its operation LIMIT on a file below OUT,
# and prints how many came to their end.
DIE_AT_FILES = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path

{imports}

EVENTS = {{"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}}
reads, *tries = sys.argv[1:]
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
    {work}


for out, limit in zip(tries[::2], map(int, tries[1::2]), strict=True):
    child = os.fork()
    if child == 0:
        attempt(out, limit)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
        sys.exit(f"{{out}} {{limit}}: failed")
    num_done += os.WIFEXITED(status)
print(num_done)
"""

DieAtFiles = Callable[[str, str, Path, list[tuple[Path, int]]], int]


@pytest.fixture(scope="session")
def die_at_files() -> DieAtFiles:
    """Runs imports and work, a line of Python that reads `reads` and writes to `out`; tries are OUT and LIMIT. How many
    came to their end.
    """

    def run(imports: str, work: str, reads: Path, tries: list[tuple[Path, int]]) -> int:
        arguments = [str(word) for one in tries for word in one]
        script = DIE_AT_FILES.format(imports=imports, work=work)
        done = subprocess.run(
            [sys.executable, "-c", script, str(reads), *arguments], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return int(done.stdout.splitlines()[-1])

    return run


def start(arguments: Sequence[str | Path], processes: int = 1, stderr: int | None = None) -> subprocess.Popen[bytes]:
    """Python with arguments, several processes under `accelerate launch`."""
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "accelerate.commands.launch", "--config_file", str(ROOT / "deploy/accelerate/cpu.yaml")]
        command += ["--num_processes", str(processes), "--main_process_port", "0", "--num_cpu_threads_per_process", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    return subprocess.Popen([*command, *map(str, arguments)], env=environment, cwd=ROOT, stderr=stderr)


def start_stage(
    stage: str, preset: str, *fields: str | Path, processes: int = 1, stderr: int | None = None
) -> subprocess.Popen[bytes]:
    return start(["-m", "python_core", stage, preset, *fields], processes, stderr)


@pytest.fixture(scope="module")
def tiny_evaluator(prepared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainEvaluatorConfig:
    """The tiny preset with a text encoder that has learned nothing."""
    folder = tmp_path_factory.mktemp("text_encoder")
    captions = [caption for clip in read_prepared(prepared_folder).clips for caption in clip.captions]
    write_text_encoder(folder, sorted({word for caption in captions for word in caption.strip(".").split()}))
    return replace(PRESETS["tiny"], prepared=prepared_folder, text_encoder=folder)
