"""Reads Acclaim's pair of files, a skeleton (.asf) and its motion (.amc), and works out where the bones end.

    NN.asf       :units, :root, :bonedata (begin ... end for a bone), :hierarchy (a parent and its children a line)
    NN_TT.amc    :FULLY-SPECIFIED, :DEGREES, then for each frame its number and a row of numbers for each moving bone

A bone begins where its parent ends. `direction`, `length` and `axis` describe the pose with all angles 0, in world
space. `axis` turns the bone's own axes to the world's: C. The angles of a row turn the bone about its own axes: M.
Relative to its parent the bone has turned by C M C^-1; the root turns by M after its preset orientation. All these are
turns about axes that stay in place, one after the other: for M in the order of `dof`, for C in the order of the
letters, where the numbers always stand for X, Y, Z.

Source: Schafer 1994, Acclaim Skeleton File Definition V1.10.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from python_core.clips.clip import FARTHEST_M, ClipError

METRES_PER_INCH = 0.0254
MOST_BONES = 1000
"""A skeleton with more is a damaged file."""

_TURNS = ("rx", "ry", "rz")
_SHIFTS = ("tx", "ty", "tz")


@dataclass(frozen=True, eq=False)
class Bone:
    """A bone of a skeleton; the root is one without length."""

    name: str
    parent: int
    """Index of the bone at whose end this one begins; -1 for the root."""
    offset_m: NDArray[np.float64]
    """From its beginning to its end with all angles 0, [3]; for the root its preset position."""
    axis: NDArray[np.float64]
    """C above, [3, 3]; for the root its preset orientation."""
    dof: tuple[str, ...]
    """What a row of the motion holds: rx, ry, rz; for the root tx, ty, tz too."""


@dataclass(frozen=True, eq=False)
class AcclaimSkeleton:
    """Bones, the root first and parents before children."""

    bones: tuple[Bone, ...]
    metres_per_unit: float
    radians_per_unit: float

    @property
    def columns(self) -> tuple[slice, ...]:
        """Where each bone's numbers are in the channels that `read_amc` returns."""
        starts = np.cumsum([0, *(len(bone.dof) for bone in self.bones)]).tolist()
        return tuple(slice(start, start + len(bone.dof)) for start, bone in zip(starts, self.bones, strict=False))


@dataclass(frozen=True)
class _Line:
    """A line without its comment, as words."""

    path: Path
    number: int
    words: tuple[str, ...]

    def error(self, message: str) -> ClipError:
        return ClipError(f"{self.path}:{self.number}: {message}")

    def numbers(self, count: int) -> list[float]:
        """The numbers behind the first word."""
        values = _finite(self.words[1 : 1 + count])
        if values is None or len(values) != count:
            raise self.error(f"expected {count} finite numbers after {self.words[0]}, got {' '.join(self.words[1:])!r}")
        return values


def read_asf(path: Path) -> AcclaimSkeleton:
    """Read a skeleton.

    Raises:
        ClipError: The file is missing, or a part of it is missing, repeated or of another form; names file and line.
    """
    sections = _sections(path)
    units = _named(path, sections, ":units", ("length", "angle"))
    length = units["length"].numbers(1)[0]
    # 0.45 in CMU's files: lengths were inches, and are written multiplied by it.
    metres_per_unit = METRES_PER_INCH / length if length > 0 else math.nan
    if not 0 < metres_per_unit < math.inf:
        raise units["length"].error(f"the length unit must be positive, got {length}")
    angle = " ".join(units["angle"].words[1:]).lower()
    if angle not in ("deg", "rad"):
        raise units["angle"].error(f"the angle unit must be deg or rad, got {angle!r}")
    radians_per_unit = math.radians(1) if angle == "deg" else 1.0

    root = _root(path, sections, metres_per_unit, radians_per_unit)
    found = {"root": root}
    for line, keys in _bone_blocks(sections):
        bone = _bone(line, keys, metres_per_unit, radians_per_unit)
        if bone.name in found:
            raise line.error(f"bone {bone.name} for the second time; names must differ")
        found[bone.name] = bone
        if len(found) > MOST_BONES:
            raise line.error(f"more than {MOST_BONES} bones; is this a skeleton, and whole?")
    bones = _parents_first(path, sections, found)
    return AcclaimSkeleton(bones, metres_per_unit, radians_per_unit)


def read_amc(path: Path, skeleton: AcclaimSkeleton) -> NDArray[np.float64]:
    """Read a motion of a skeleton.

    Returns:
        What `dof` lists, bone after bone, in radians and metres, [F, N]; see `AcclaimSkeleton.columns`.

    Raises:
        ClipError: The file is missing or cut off, a frame lacks a bone or has it twice, frame numbers do not run from 1
            without a gap, a row has more or fewer numbers than its bone's `dof`, or a number is not finite; names file
            and line.
    """
    counts = {bone.name: len(bone.dof) for bone in skeleton.bones if bone.dof}
    radians_per_unit = skeleton.radians_per_unit
    frames: list[list[float]] = []
    starts: list[int] = []
    rows: dict[str, list[float]] = {}
    line = _Line(path, 0, ())
    for line in _lines(path):
        first = line.words[0]
        if first.startswith(":"):
            keyword = first.upper()
            if starts or keyword not in (":FULLY-SPECIFIED", ":DEGREES", ":RADIANS"):
                raise line.error(f"expected :FULLY-SPECIFIED, :DEGREES or :RADIANS before the first frame, got {first}")
            if keyword != ":FULLY-SPECIFIED":
                radians_per_unit = math.radians(1) if keyword == ":DEGREES" else 1.0
        elif (count := counts.get(first)) is not None:
            if not starts:
                raise line.error(f"bone {first} before the number of the first frame")
            if first in rows:
                raise line.error(f"bone {first} twice in frame {len(starts)}")
            values = _finite(line.words[1:])
            if values is None or len(values) != count:
                raise line.error(f"expected {count} finite numbers for bone {first}, got {' '.join(line.words[1:])!r}")
            rows[first] = values
        elif line.words == (str(len(starts) + 1),):
            if starts:
                frames.append(_frame(line, counts, rows))
            starts.append(line.number)
            rows = {}
        else:
            raise line.error(
                f"expected frame {len(starts) + 1} or a bone that moves ({', '.join(list(counts)[:5])}, ...), "
                f"got {' '.join(line.words)[:60]!r}; is this the motion of this skeleton, and whole?"
            )
    if not starts:
        raise ClipError(f"{path}: no frame in it; is this a motion, and whole?")
    frames.append(_frame(line, counts, rows))

    channels = np.array(frames)
    shifts = np.array([name in _SHIFTS for bone in skeleton.bones for name in bone.dof])
    # Before the unit is applied, so that a number that is out of reach cannot grow out of range.
    far = np.abs(channels[:, shifts]).max(axis=1) > FARTHEST_M / skeleton.metres_per_unit
    if far.any():
        raise ClipError(
            f"{path}:{starts[int(far.argmax())]}: the root is farther than {FARTHEST_M:.0f} m from the origin"
        )
    return channels * np.where(shifts, skeleton.metres_per_unit, radians_per_unit)


def bone_turns_and_ends(
    skeleton: AcclaimSkeleton, channels: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Forward kinematics.

    Args:
        channels: As `read_amc` returns them, [F, N].

    Returns:
        How each bone has turned from the pose with all angles 0, in world space, [B, F, 3, 3], and where it ends,
        metres, [B, F, 3].
    """
    turns: list[NDArray[np.float64]] = []
    ends: list[NDArray[np.float64]] = []
    for bone, columns in zip(skeleton.bones, skeleton.columns, strict=True):
        values = channels[:, columns]
        turn = _turn(bone.dof, values)
        if bone.parent < 0:
            turns.append(turn @ bone.axis)
            ends.append(bone.offset_m + values[:, [bone.dof.index(name) for name in _SHIFTS]])
        else:
            turned = turns[bone.parent]
            # A bone without dof turns with its parent.
            turns.append(turned @ (bone.axis @ turn @ bone.axis.T) if bone.dof else turned)
            ends.append(ends[bone.parent] + turns[-1] @ bone.offset_m)
    return np.stack(turns), np.stack(ends)


def _turn(order: Sequence[str], radians: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turns about fixed axes, the first of `order` first, [F, len(order)] -> [F, 3, 3]; others than rx, ry, rz are
    passed over.
    """
    turn = np.tile(np.eye(3), (len(radians), 1, 1))
    for name, angles in zip(order, radians.T, strict=True):
        if name not in _TURNS:
            continue
        first, second = ((1, 2), (2, 0), (0, 1))[_TURNS.index(name)]
        cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
        row = cos * turn[:, first] - sin * turn[:, second]
        turn[:, second] = sin * turn[:, first] + cos * turn[:, second]
        turn[:, first] = row
    return turn


def _lines(path: Path) -> Iterator[_Line]:
    if not path.is_file():
        raise ClipError(f"{path}: missing")
    # Comments of old files are in any encoding; the rest is ASCII, which this one contains.
    text = path.read_bytes().decode("latin-1")
    for number, line in enumerate(text.split("\n"), start=1):
        if words := tuple(line.split("#")[0].split()):
            yield _Line(path, number, words)


def _finite(words: Sequence[str]) -> list[float] | None:
    """Numbers, or nothing where one is not a finite number in digits."""
    try:
        values = [float(word) for word in words]
    except ValueError:
        return None
    # float() takes underscores between digits, which no such file has.
    return values if all(map(math.isfinite, values)) and "_" not in "".join(words) else None


def _sections(path: Path) -> dict[str, list[_Line]]:
    sections: dict[str, list[_Line]] = {}
    lines: list[_Line] = []
    for line in _lines(path):
        if not line.words[0].startswith(":"):
            lines.append(line)
            continue
        keyword = line.words[0].lower()
        if keyword in sections:
            raise line.error(f"section {keyword} for the second time")
        sections[keyword] = lines = []
    for keyword in (":units", ":root", ":bonedata", ":hierarchy"):
        if keyword not in sections:
            raise ClipError(f"{path}: no section {keyword}; is this an Acclaim skeleton, and whole?")
    return sections


def _keys(lines: Sequence[_Line]) -> dict[str, _Line]:
    """Lines by their first word; continued limits, which start with a bracket, are passed over."""
    keys: dict[str, _Line] = {}
    for line in lines:
        key = line.words[0].lower()
        if key.startswith("("):
            continue
        if key in keys:
            raise line.error(f"{key} for the second time")
        keys[key] = line
    return keys


def _named(path: Path, sections: dict[str, list[_Line]], keyword: str, names: tuple[str, ...]) -> dict[str, _Line]:
    keys = _keys(sections[keyword])
    if missing := [name for name in names if name not in keys]:
        raise ClipError(f"{path}: section {keyword} has no {', '.join(missing)}")
    return keys


def _root(path: Path, sections: dict[str, list[_Line]], metres_per_unit: float, radians_per_unit: float) -> Bone:
    keys = _named(path, sections, ":root", ("order", "axis", "position", "orientation"))
    order = tuple(word.lower() for word in keys["order"].words[1:])
    if sorted(order) != sorted(_SHIFTS + _TURNS):
        raise keys["order"].error(f"expected TX TY TZ RX RY RZ in some order, got {' '.join(order)}")
    position_m = np.array([value * metres_per_unit for value in keys["position"].numbers(3)])
    if not np.abs(position_m).max() <= FARTHEST_M:
        raise keys["position"].error(f"the root is farther than {FARTHEST_M:.0f} m from the origin")
    axis = keys["axis"]
    angles = np.array(keys["orientation"].numbers(3)) * radians_per_unit
    return Bone("root", -1, position_m, _axis(axis, angles, axis.words[1:]), order)


def _bone_blocks(sections: dict[str, list[_Line]]) -> Iterator[tuple[_Line, dict[str, _Line]]]:
    """The line where each bone begins, and the bone's lines by their first word."""
    begin: _Line | None = None
    lines: list[_Line] = []
    for line in sections[":bonedata"]:
        word = line.words[0].lower()
        if begin is None:
            if word != "begin":
                raise line.error(f"expected begin, got {line.words[0]!r}")
            begin, lines = line, []
        elif word == "begin":
            raise line.error(f"the bone that begins in line {begin.number} has no end")
        elif word == "end":
            yield begin, _keys(lines)
            begin = None
        else:
            lines.append(line)
    if begin is not None:
        raise begin.error("this bone has no end; is the file whole?")


def _bone(line: _Line, keys: dict[str, _Line], metres_per_unit: float, radians_per_unit: float) -> Bone:
    if missing := [name for name in ("name", "direction", "length", "axis") if name not in keys]:
        raise line.error(f"this bone has no {', '.join(missing)}")
    if len(keys["name"].words) != 2:
        raise keys["name"].error("expected one word as the name of the bone")
    name = keys["name"].words[1]
    direction = np.array(keys["direction"].numbers(3))
    norm = float(np.linalg.norm(direction / (largest := max(float(np.abs(direction).max()), 1e-300))))
    if not norm * largest > 1e-6:
        raise keys["direction"].error(f"bone {name} points nowhere: {' '.join(keys['direction'].words[1:])}")
    length_m = keys["length"].numbers(1)[0] * metres_per_unit
    if not 0 <= length_m <= FARTHEST_M:
        raise keys["length"].error(f"bone {name} must be 0 to {FARTHEST_M:.0f} m long, got {length_m:g} m")
    dof = tuple(word.lower() for word in keys["dof"].words[1:]) if "dof" in keys else ()
    if len(set(dof)) != len(dof) or not set(dof) <= set(_TURNS):
        raise keys["dof"].error(f"bone {name}: expected some of rx ry rz, got {' '.join(dof)}; it cannot be moved else")
    angles = np.array(keys["axis"].numbers(3)) * radians_per_unit
    axis = _axis(keys["axis"], angles, keys["axis"].words[4:])
    return Bone(name, -1, direction / largest / norm * length_m, axis, dof)


def _axis(line: _Line, radians: NDArray[np.float64], letters: Sequence[str]) -> NDArray[np.float64]:
    order = "".join(letters).lower()
    if sorted(order) != ["x", "y", "z"]:
        raise line.error(f"expected the letters XYZ in some order, got {' '.join(letters)!r}")
    places = ["xyz".index(letter) for letter in order]
    return _turn([f"r{letter}" for letter in order], radians[None, places])[0]


def _parents_first(path: Path, sections: dict[str, list[_Line]], found: dict[str, Bone]) -> tuple[Bone, ...]:
    """Bones with their parents, by the section :hierarchy."""
    children: dict[str, list[str]] = {}
    parents: dict[str, str] = {}
    for line in sections[":hierarchy"]:
        parent, *names = line.words
        if parent.lower() in ("begin", "end") and not names:
            continue
        for name in line.words:
            if name not in found:
                raise line.error(f"bone {name!r} is not in :bonedata")
        for name in names:
            if name == "root" or name in parents:
                raise line.error(f"bone {name} has a second parent, {parent}")
            parents[name] = parent
            children.setdefault(parent, []).append(name)
    bones: list[Bone] = []
    waiting = deque([("root", -1)])
    while waiting:
        name, parent = waiting.popleft()
        bone = found[name]
        waiting.extend((child, len(bones)) for child in children.get(name, ()))
        bones.append(Bone(name, parent, bone.offset_m, bone.axis, bone.dof))
    if len(bones) != len(found):
        lost = sorted(set(found) - {bone.name for bone in bones})
        raise ClipError(f"{path}: section :hierarchy does not lead from the root to {', '.join(lost[:5])}")
    return tuple(bones)


def _frame(line: _Line, counts: dict[str, int], rows: dict[str, list[float]]) -> list[float]:
    """The rows of a frame in the skeleton's order; `line` is the first one after them, or the last of the file."""
    if len(rows) != len(counts):
        missing = [name for name in counts if name not in rows]
        raise line.error(
            f"the frame that ends here lacks {len(missing)} bones ({', '.join(missing[:5])}); is the file whole?"
        )
    return [value for name in counts for value in rows[name]]
