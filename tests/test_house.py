"""The rules of the house that no other tool checks, over the files that git tracks."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
MEGABYTE = 1_000_000
GENERATED = "bridge/stubs/"

MACHINE_PATH = re.compile(rb"(?<![\w.-])/(work|root|home)/[\w.]")
REGISTRY_HOST = re.compile(rb"(pypi|pythonhosted|npmjs|nuget)\.(org|com)|download\.pytorch\.org")


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """Paths in the repository, relative to its root."""
    # A checkout may belong to another user than the one who runs the tests.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    files = [path for path in listed.split("\0") if (ROOT / path).is_file()]
    assert "pyproject.toml" in files
    return files


def test_no_file_is_larger_than_45_mb(tracked: list[str]):
    assert [path for path in tracked if (ROOT / path).stat().st_size > 45 * MEGABYTE] == []


def test_the_default_bundle_is_at_most_20_mb(tracked: list[str]):
    bundle = [ROOT / path for path in tracked if path.startswith("bridge/default_bundle/")]
    assert ROOT / "bridge/default_bundle/manifest.json" in bundle
    assert sum(path.stat().st_size for path in bundle) <= 20 * MEGABYTE


def test_readme_names_every_module_and_folder(tracked: list[str]):
    readme = (ROOT / "README.md").read_text()
    modules = {
        Path(path).name for path in tracked if path.endswith(".py") and not path.startswith(("tests/", GENERATED))
    }
    folders = {path.split("/")[0] + "/" for path in tracked if "/" in path and not path.startswith(".")}
    names = (modules - {"__init__.py"}) | folders
    assert len(names) > 10
    missing = [name for name in sorted(names) if not re.search(rf"(?<!\w){re.escape(name)}", readme)]
    assert not missing, f"README.md does not name {missing}"


@pytest.mark.parametrize("pattern", [MACHINE_PATH, REGISTRY_HOST])
def test_no_file_names_a_machine_or_a_registry(tracked: list[str], pattern: re.Pattern[bytes]):
    found = {path: match[0] for path in tracked if (match := pattern.search((ROOT / path).read_bytes()))}
    assert found == {}


def test_init_files_are_empty(tracked: list[str]):
    inits = [path for path in tracked if Path(path).name == "__init__.py"]
    assert "bridge/__init__.py" in inits
    assert [path for path in inits if (ROOT / path).read_bytes()] == []


def test_one_version_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert json.loads((ROOT / "unity_client/package.json").read_text())["version"] == version
    assert re.search(rf"^## \[?{re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_the_contract_imports_the_standard_library_and_numpy_only():
    graph = grimp.build_graph("python_core", include_external_packages=True)
    modules = graph.find_descendants("python_core.contract")
    assert len(modules) >= 6
    imported = {name.split(".")[0] for module in modules for name in graph.find_modules_directly_imported_by(module)}
    assert imported - sys.stdlib_module_names == {"numpy", "python_core"}
