"""The package as Unity's package manager sees it."""

import json
import re
from collections import Counter
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "unity_client"


def visible_paths() -> list[Path]:
    """Return files and folders that Unity imports: it passes over names that end in ~ or start with a dot."""
    return [
        path
        for path in sorted(PACKAGE.rglob("*"))
        if not any(part.endswith("~") or part.startswith(".") for part in path.relative_to(PACKAGE).parts)
    ]


def test_everything_that_unity_imports_has_a_meta_file():
    paths = [path for path in visible_paths() if path.suffix != ".meta"]
    assert len(paths) > 20
    assert [str(path) for path in paths if not path.with_name(path.name + ".meta").is_file()] == []


def test_every_meta_file_belongs_to_something():
    metas = [path for path in visible_paths() if path.suffix == ".meta"]
    assert [str(path) for path in metas if not path.with_suffix("").exists()] == []


def test_every_guid_is_well_formed_and_unique():
    guids = Counter()
    for meta in (path for path in visible_paths() if path.suffix == ".meta"):
        found = re.findall(r"^guid: ([0-9a-f]{32})$", meta.read_text(), re.MULTILINE)
        assert len(found) == 1, meta
        guids[found[0]] += 1
    assert [guid for guid, count in guids.items() if count > 1] == []


def test_the_manifest_names_package_and_oldest_unity():
    manifest = json.loads((PACKAGE / "package.json").read_text())
    assert manifest["name"] == "com.motion-r1.client"
    assert manifest["unity"] == "2022.3"
    # Parts of the editor itself that a project can switch off; nothing that is downloaded.
    assert all(name.startswith("com.unity.modules.") for name in manifest["dependencies"])
    for sample in manifest["samples"]:
        assert list((PACKAGE / sample["path"]).glob("*.cs")), sample


def test_assemblies_see_only_what_is_below_them():
    definitions = {}
    for path in PACKAGE.rglob("*.asmdef"):
        definition = json.loads(path.read_text())
        assert definition["name"] == path.stem
        definitions[path.stem] = definition
    assert definitions["MotionR1.Core"]["noEngineReferences"] is True
    assert definitions["MotionR1.Core"]["references"] == []
    assert definitions["MotionR1"]["references"] == ["MotionR1.Core"]
    assert set(definitions["MotionR1.Editor"]["references"]) == {"MotionR1.Core", "MotionR1"}
    assert definitions["MotionR1.Editor"]["includePlatforms"] == ["Editor"]
    assert definitions["MotionR1.Http2"]["defineConstraints"] == ["MOTION_R1_HTTP2"]
    assert definitions["MotionR1.Tests"]["defineConstraints"] == ["UNITY_INCLUDE_TESTS"]


def test_one_file_knows_about_handedness():
    knows = [path.name for path in PACKAGE.glob("Runtime/**/*.cs") if "System.Numerics" in path.read_text()]
    assert [name for name in knows if name not in {"MotionFrame.cs", "FrameReader.cs", "PlaybackBuffer.cs"}] == [
        "UnitySpace.cs"
    ]


def test_core_is_the_same_for_every_unity():
    """So it is compiled once."""
    assert [path.name for path in PACKAGE.glob("Runtime/Core/**/*.cs") if "#if" in path.read_text("utf-8-sig")] == []
