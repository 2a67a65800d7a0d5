"""What pip installs is enough: `.[bridge]` alone serves and generates, and every version is pinned."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from python_core.contract.motion import read_motion

ROOT = Path(__file__).parents[1]

IMPORT_EVERYTHING = """
import importlib, pkgutil
import bridge, python_core.contract
for package in bridge, python_core.contract:
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
        print(module.name)
"""


def find_dependencies(ours: Distribution, extra: str) -> dict[str, Distribution]:
    """What pip would install beside us for this extra, by name; all of it is installed where the tests run."""
    found = {}
    unread = [(ours, {extra})]
    while unread:
        reading, extras = unread.pop()
        for requirement in map(Requirement, reading.requires or []):
            marker = requirement.marker
            if marker and not any(marker.evaluate({"extra": extra}) for extra in {"", *extras}):
                continue
            name = canonicalize_name(requirement.name)
            if name == ours.name:
                unread.append((ours, requirement.extras))
            elif name not in found or requirement.extras:
                found[name] = distribution(name)
                unread.append((found[name], requirement.extras))
    return found


def link_files(of: Iterable[Distribution], site_packages: Path) -> None:
    for installed in of:
        for file in installed.files or []:
            link = site_packages / file
            if ".." not in file.parts and not link.exists():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(Path(str(installed.locate_file(file))).resolve())


@pytest.fixture(scope="module")
def our_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our wheel, unpacked, with the metadata that pip would read."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def ours(our_wheel: Path) -> Distribution:
    return Distribution.at(next(our_wheel.glob("*.dist-info")))


@pytest.fixture(scope="module")
def python_with_bridge(our_wheel: Path, ours: Distribution, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment as `pip install .[bridge]` leaves it, made without the network."""
    folder = tmp_path_factory.mktemp("with_bridge")
    venv.create(folder, with_pip=False)
    site_packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    link_files(find_dependencies(ours, "bridge").values(), site_packages)
    (site_packages / "motion_r1.pth").write_text(str(our_wheel))
    return Path(sysconfig.get_path("scripts", "venv", {"base": str(folder)})) / "python"


def run_python(python: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run it where neither this repository nor an environment variable adds anything to import."""
    return subprocess.run([python, "-I", *arguments], cwd=cwd, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("module", ["torch", "transformers"])
def test_the_bridge_brings_neither_torch_nor_transformers(python_with_bridge: Path, module: str, tmp_path: Path):
    done = run_python(python_with_bridge, "-c", f"import {module}", cwd=tmp_path)
    assert f"No module named '{module}'" in done.stderr


def test_every_module_of_bridge_and_contract_imports(python_with_bridge: Path, tmp_path: Path):
    done = run_python(python_with_bridge, "-c", IMPORT_EVERYTHING, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {"bridge.__main__", "bridge.stubs.motion_pb2", "python_core.contract.motion"} <= set(done.stdout.split())


def test_generate_starts_a_server_and_writes_a_clip(python_with_bridge: Path, tmp_path: Path):
    done = run_python(
        python_with_bridge,
        *("-m", "bridge", "generate", "a person walks forward", "--out", "clip.npz", "--seed", "1"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    motion = read_motion(tmp_path / "clip.npz")
    assert motion.num_frames > 0
    assert motion.num_frames % 4 == 0


def test_constraints_pin_whatever_any_extra_installs(ours: Distribution):
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if not line.startswith("#")]
    pinned = {str(canonicalize_name(name)): version for name, version in pins}
    installed = find_dependencies(ours, "dev")
    assert {"torch", "onnxruntime", "ruff"} <= set(installed)
    assert {name: Version(found.version).public for name, found in installed.items()}.items() <= pinned.items()
    assert "onnxruntime-gpu" in pinned
