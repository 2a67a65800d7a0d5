"""The C# tools, the compiled client, and a way to run its NUnit tests in a process of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
TOOLS = REPOSITORY / ".csharp"
TIMEOUT_S = 300


@pytest.fixture(scope="session")
def run_program() -> Callable[..., str]:
    """Run a program with this Python first on the path; what it prints comes back, a failure fails the test."""

    def run(*command: str | Path, **environment: str) -> str:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        result = subprocess.run(
            [str(part) for part in command],
            env={**os.environ, "PATH": path, **environment},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        if result.returncode != 0:
            pytest.fail(f"{' '.join(map(str, command))} failed:\n{result.stdout}\n{result.stderr}", pytrace=False)
        return result.stdout

    return run


@pytest.fixture(scope="session")
def assemblies(run_program: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the compiled client and its tests. The tools are fetched where they are missing, which needs npm."""
    run_program("bash", HERE / "fetch_csharp_tools.sh", TOOLS)
    folder = tmp_path_factory.mktemp("assemblies")
    run_program(sys.executable, HERE / "build.py", "compile", TOOLS, folder)
    return folder


@pytest.fixture(scope="session")
def run_nunit(run_program: Callable[..., str], assemblies: Path) -> Callable[..., str]:
    """Run NUnit tests by full name, all without one; keywords are environment variables. Returns what was printed."""

    def run(*names: str, **environment: str) -> str:
        return run_program(sys.executable, HERE / "build.py", "test", TOOLS, assemblies, *names, **environment)

    return run


@pytest.fixture(scope="session")
def wait_for() -> Callable[[Path], None]:
    """Wait until the other side has written a file."""

    def wait(path: Path) -> None:
        deadline_s = time.monotonic() + TIMEOUT_S
        while not path.exists():
            assert time.monotonic() < deadline_s, f"{path.name} did not come"
            time.sleep(0.02)

    return wait
