"""Which joint of a file's skeleton is which joint of the 22-joint body: from a mapping file, or guessed from names.

    scale = 0.01                metres of one unit of the file; without it the unit is guessed from the legs
    up = "z"                    the file's upward axis, "y" or "z"; without it it is found from the poses
    [joints]                    all that our body needs, or none: then they are guessed
    pelvis = "Hips"             our name = the file's
    l_foot = "LeftFoot.end"     the End Site below the file's LeftFoot

Spine joints and collars may be left out: `rig.py` says where they are placed then.
"""

import json
import math
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from python_core.clips.clip import ClipError
from python_core.contract.skeleton import BODY_22

MAPPING_FILE = "mapping.toml"
"""What it is called in a folder of clips."""
END_SITE = ".end"
PLACED = ("spine1", "spine2", "spine3", "l_collar", "r_collar")
"""Our joints that a file may lack."""
UP_AXES = ("y", "z")

_MOST_LISTED = 60
_PREFIX_SHARE = 0.6
"""A prefix such as `Bip01 ` is one if so many of the names have it."""
_NEWCOMER = re.compile(r"^mixamorig\d*[:_]?", re.IGNORECASE)
_BEFORE = re.compile(r"^(left|right|[lrc](?=[ _.-]))[ _.-]*(.+)$", re.IGNORECASE)
_BEHIND = re.compile(r"^(.+?)[ _.-]+(left|right|[lr])$", re.IGNORECASE)

# Names of a kind of joint without side, separators and case. The first that a skeleton has counts, and none twice: so
# `shoulder` is the collar beside `arm`, and the shoulder beside `collar`. The order of the kinds matters as well.
_SIDED = {
    "hip": ("upleg", "thigh", "thighbend", "upperleg", "femur", "hip"),
    "knee": ("leg", "lowleg", "lowerleg", "calf", "shin", "tibia", "knee"),
    "ankle": ("ankle", "foot"),
    "foot": ("toebase", "toes", "toe", "toe0", "ball", "foot"),
    "shoulder": ("arm", "uparm", "upperarm", "upparm", "shldr", "shldrbend", "humerus", "shoulder"),
    "collar": ("collar", "clavicle", "shoulder"),
    "elbow": ("forearm", "lowarm", "lowerarm", "forearmbend", "elbow", "radius"),
    "wrist": ("wrist", "hand"),
}
_CENTRAL = {
    "pelvis": ("hips", "hip", "pelvis", "root"),
    "neck": ("neck", "neck01", "necklower", "neck1", "lowerneck"),
    "head": ("head",),
}
# CMU's skeletons have their first neck joint below the shoulders.
_CMU_NECKS = ("neck1", "upperneck")
_SPINES = (("spine1", "spine2", "spine3"), ("spine", "spine1", "spine2"), ("spine01", "spine02", "spine03"))
_AT_ITS_END = {"head": "neck", "l_wrist": "l_elbow", "r_wrist": "r_elbow", "l_foot": "l_ankle", "r_foot": "r_ankle"}
_SIDED_CORES = {core for cores in _SIDED.values() for core in cores}


@dataclass(frozen=True)
class Mapping:
    """Where our joints are found in a skeleton.

    Raises:
        ClipError: A joint that is not ours, one of the file's joints for two of ours, a scale that is not a positive
            number, another upward axis than y and z.
    """

    joints: dict[str, str]
    """Our name -> the file's name, or its name and `.end` for the End Site below it. None at all: to be guessed."""
    scale: float | None = None
    """Metres of one unit of the file; None guesses it."""
    up: str | None = None
    """The file's upward axis; None finds it."""

    def __post_init__(self) -> None:
        if strangers := [name for name in self.joints if name not in BODY_22.joint_names]:
            raise ClipError(
                f"mapping: no joints of ours: {_listed(strangers)}; ours are {', '.join(BODY_22.joint_names)}"
            )
        if twice := [name for name, count in Counter(self.joints.values()).items() if count > 1]:
            raise ClipError(f"mapping: given for more than one of our joints: {_listed(twice)}; each can be one only")
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise ClipError(f"mapping: scale must be the metres of one unit of the file, got {self.scale}")
        if self.up not in (None, *UP_AXES):
            raise ClipError(f"mapping: up must be one of {', '.join(UP_AXES)}, got {self.up!r}")


def check_names(mapping: Mapping, names: Sequence[str]) -> None:
    """Compare a mapping with the names of a file's joints and End Sites.

    Raises:
        ClipError: Joints are not mapped, or not in the file, or are there more than once; lists all of them and all
            joints of the file that are not used.
    """
    counts = Counter(names)
    problems = []
    needed = [name for name in BODY_22.joint_names if name not in PLACED]
    if missing := [name for name in needed if name not in mapping.joints]:
        problems.append(f"no joint for {', '.join(missing)}")
    if absent := [f"{ours} = {theirs!r}" for ours, theirs in mapping.joints.items() if theirs not in counts]:
        problems.append(f"not in the file: {', '.join(absent)}")
    if doubled := [theirs for theirs in mapping.joints.values() if counts[theirs] > 1]:
        problems.append(f"more than once in the file: {_listed(doubled)}")
    if problems:
        unused = _unused(mapping, names)
        raise ClipError(
            f"{'; '.join(problems)}; unused joints of the file: {_listed(unused) if unused else 'none'}; name the "
            "right ones in a mapping file"
        )


def guess_mapping(names: Sequence[str]) -> Mapping:
    """Guess a mapping from the names of joints and End Sites (`LeftFoot.end`).

    Knows the names of Mixamo, CMU, LAFAN1, Rokoko, Xsens, HDM05, Biovision, Truebones, Bandai Namco, Biped, Unreal,
    DAZ, Unity and SMPL, with or without namespace and prefix.

    Raises:
        ClipError: Joints have no name that is known; lists them and all joints of the file that are not used.
    """
    found: dict[tuple[str, str], str] = {}
    theirs = [name for name in names if not name.endswith(END_SITE)]
    for name, plain in zip(theirs, _without_prefix(theirs), strict=True):
        found.setdefault(_side_and_core(plain), name)
    joints = {}
    for side in ("l", "r"):
        used: set[str] = set()
        for part, cores in _SIDED.items():
            core = next((core for core in cores if core not in used and (side, core) in found), None)
            if core is not None:
                used.add(core)
                joints[f"{side}_{part}"] = found[side, core]
    for ours, cores in _CENTRAL.items():
        if ours == "neck" and ("", "lowerback") in found:
            cores = (*_CMU_NECKS, *cores)
        if core := next((core for core in cores if ("", core) in found), None):
            joints[ours] = found["", core]
    trunk = {core for side, core in found if not side and core.startswith(("spine", "chest", "upperchest"))}
    for spine in _SPINES:
        if trunk == set(spine):
            joints |= {f"spine{number}": found["", core] for number, core in enumerate(spine, start=1)}
    for ours, above in _AT_ITS_END.items():
        end = f"{joints.get(above)}{END_SITE}"
        if ours not in joints and end in names:
            joints[ours] = end
    mapping = Mapping({name: joints[name] for name in BODY_22.joint_names if name in joints})
    check_names(mapping, names)
    return mapping


def read_mapping(path: Path) -> Mapping:
    """Read a mapping file.

    Raises:
        ClipError: Missing, not TOML, or a field that is unknown or holds what it should not.
    """
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ClipError(f"{path}: cannot be read ({error.strerror}); a mapping file is expected there") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ClipError(f"{path}: not TOML ({error})") from error
    if unknown := sorted(fields.keys() - {"joints", "scale", "up"}):
        raise ClipError(f"{path}: unknown fields {_listed(unknown)}; expected joints, scale and up")
    joints, scale, up = fields.get("joints", {}), fields.get("scale"), fields.get("up")
    if not isinstance(joints, dict) or not all(isinstance(theirs, str) for theirs in joints.values()):
        raise ClipError(f'{path}: expected a table [joints] with lines such as pelvis = "Hips"')
    if scale is not None and (isinstance(scale, bool) or not isinstance(scale, int | float)):
        raise ClipError(f"{path}: scale must be a number, the metres of one unit of the file, got {scale!r}")
    try:
        return Mapping(joints, None if scale is None else float(scale), up)
    except (ClipError, OverflowError) as error:
        raise ClipError(f"{path}: {error}") from error


def format_mapping(mapping: Mapping, names: Iterable[str] = ()) -> str:
    """The mapping as text that `read_mapping` reads, for the user to look at and correct.

    Args:
        mapping: The mapping.
        names: Joints and End Sites of a file; joints that are not mapped are listed in a comment.
    """
    lines = ["# Our joint = the joint of the file; NAME.end is the End Site below NAME."]
    if mapping.scale is None:
        lines.append("# scale = 0.01  (metres of one unit of the file; without it, guessed from the legs)")
    else:
        lines.append(f"scale = {mapping.scale!r}")
    if mapping.up is None:
        lines.append('# up = "z"  (the upward axis, y or z; without it, found from the poses)')
    else:
        lines.append(f"up = {_quoted(mapping.up)}")
    lines += ["", "[joints]"]
    for ours in BODY_22.joint_names:
        if ours in mapping.joints:
            lines.append(f"{ours} = {_quoted(mapping.joints[ours])}")
        elif ours in PLACED:
            lines.append(f'# {ours} = ""  (without it, placed between its neighbours)')
    if unused := sorted(_unused(mapping, names)):
        lines += ["", f"# Unused joints of the file: {_listed(unused)}"]
    return "\n".join(lines) + "\n"


def _unused(mapping: Mapping, names: Iterable[str]) -> list[str]:
    """Joints of a file that are none of ours, in its order."""
    used = set(mapping.joints.values())
    return [name for name in dict.fromkeys(names) if name not in used and not name.endswith(END_SITE)]


def _without_prefix(names: Sequence[str]) -> list[str]:
    """Names without namespace, and without the words that most of them begin with."""
    plain = [_NEWCOMER.sub("", re.split(r"[:|]", name)[-1]) for name in names]
    while True:
        starts = Counter(match[0] for name in plain if (match := re.match(r"[^ _.-]+[ _.-]+(?=.)", name)))
        start, count = starts.most_common(1)[0] if starts else ("", 0)
        if not start or count < _PREFIX_SHARE * len(plain):
            return plain
        plain = [name.removeprefix(start) for name in plain]


def _side_and_core(name: str) -> tuple[str, str]:
    """`l`, `r` or nothing, and the rest in small letters without separators: ("l", "upleg")."""
    side, core = "", name
    if match := _BEFORE.match(name):
        side, core = match.groups()
    elif match := _BEHIND.match(name):
        core, side = match.groups()
    # lThigh and lfemur, but not lowerback.
    elif name[:1].lower() in ("l", "r") and name[1:].lower() in _SIDED_CORES:
        side, core = name[0], name[1:]
    return side[:1].lower().replace("c", ""), re.sub(r"[ _.-]", "", core).lower()


def _listed(names: Sequence[str]) -> str:
    """Names for an error message, which a damaged file shall not make longer than people read."""
    shown = [repr(name[:40]) for name in names[:_MOST_LISTED]]
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def _quoted(text: str) -> str:
    """A TOML string: JSON's, but for the delete character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
