"""Reads folders of BVH files of any skeleton.

    walk/a 01.bvh            a file is a clip; its name is `walk/a 01`
    texts/walk/a 01.txt      its captions as HumanML3D writes them, or beside it in walk/a 01.txt
    train.txt, val.txt, ...  a name a line; without any such file all clips are in `train`
    licences.csv             optional: id, source, licence; an id is a name, or `*` for all without a line of their own

BVH: a skeleton with channels for each joint, then a row of numbers for each frame. Degrees; rotations turn about the
axes of the joint in the order of the channels; a position channel replaces that number of the joint's OFFSET. Files
have no unit: `rig.py` finds it, and the upward axis.

Source: Meredith and Maddock 2001, Motion Capture File Formats Explained.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import NoReturn, TextIO

import numpy as np
from numpy.typing import NDArray

from python_core.clips.clip import Clip, ClipError
from python_core.clips.humanml3d import find_licence, read_captions
from python_core.clips.joint_names import END_SITE, Mapping, format_mapping, guess_mapping, read_mapping
from python_core.clips.layouts import list_files
from python_core.clips.licences import UNKNOWN
from python_core.clips.rig import body_joints, find_joints, first_frame_is_apart
from python_core.contract.motion import multiply, rotate

logger = logging.getLogger(__name__)

MOST_BYTES = 256 * 2**20
LONGEST_LINE = 2**20
MOST_JOINTS = 2000
LARGEST = 1e7
"""No number of a file is larger: a kilometre is 1e6 mm, and angles that are not wrapped count on."""
FRAME_TIME_S = (1e-3, 1.0)
RATE_ROUNDING = 5e-4
"""Frame times are written with few digits: a rate so near to a whole one, as a share, is the whole one."""
SPLITS = ("train", "val", "test")

_CHANNEL = re.compile(r"([XYZ])(POSITION|ROTATION)")


@dataclass(frozen=True)
class BvhFolder:
    """Reader of the layout above. A first frame that is no part of the motion, such as a T-pose, is left out."""

    folder: Path
    mapping: Path | None = None
    """A mapping file as `joint_names.py` describes it; without its joints they are guessed from the file's names."""

    def names(self, split: str) -> list[str]:
        """Names of a split; without split files all are in train, and val and test are empty.

        Raises:
            ClipError: There is no such split, no file, or two names that would be one clip.
        """
        if (listing := self.folder / f"{split}.txt").is_file():
            names = _read_listing(listing)
        elif others := [name for name in SPLITS if (self.folder / f"{name}.txt").is_file()]:
            raise ClipError(f"{listing}: missing; the folder has the splits {', '.join(others)}")
        elif split not in SPLITS:
            raise ClipError(f"{listing}: missing; without such files all clips are in train")
        elif split != "train":
            return []
        else:
            files = [path for path in list_files(self.folder) if path.suffix.lower() == ".bvh" and path.is_file()]
            names = sorted(path.relative_to(self.folder).with_suffix("").as_posix() for path in files)
            logger.info(
                "%s: no train.txt or val.txt, so all %d clips are in train; list names in both to hold some out",
                self.folder,
                len(names),
            )
        if not names:
            raise ClipError(f"{self.folder}: no .bvh file in split {split}")
        clip_ids: dict[str, str] = {}
        for name in names:
            if (other := clip_ids.setdefault(_clip_id(name), name)) != name:
                raise ClipError(f"{self.folder}: {other} and {name} would both be clip {_clip_id(name)}; rename one")
        return names

    def read(self, name: str) -> list[Clip]:
        path = self._file(name)
        captions = read_captions(self._caption_file(name))
        source, licence = find_licence(self.folder, name) or (UNKNOWN, UNKNOWN)
        clip = read_bvh_clip(path, self.mapping)
        return [replace(clip, clip_id=_clip_id(name), captions=captions, source=source, licence=licence)]

    def _file(self, name: str) -> Path:
        for suffix in (".bvh", ".BVH"):
            if (path := self.folder / f"{name}{suffix}").is_file():
                return path
        raise ClipError(f"{self.folder / name}.bvh: missing")

    def _caption_file(self, name: str) -> Path:
        places = (self.folder / "texts" / f"{name}.txt", self.folder / f"{name}.txt")
        for path in places:
            if path.is_file():
                return path
        raise ClipError(f"{places[0]}: missing, and so is {places[1]}; each clip has its captions in one of them")


@dataclass(frozen=True, eq=False)
class BvhFile:
    """What a file holds, in its own unit and axes."""

    names: tuple[str, ...]
    """Joints and End Sites, parents before children; an End Site is called after its joint, `LeftFoot.end`."""
    parents: tuple[int, ...]
    """-1 for the root, which is the first."""
    offsets: NDArray[np.float64]
    """[N, 3]"""
    channels: tuple[tuple[str, ...], ...]
    """For each joint, `XPOSITION` and the like."""
    rows: NDArray[np.float64]
    """A number for each channel, joint after joint, [F, channels]."""
    frame_rate_hz: float

    @property
    def rest_positions(self) -> NDArray[np.float64]:
        """Where joints are with every rotation at 0 and every joint at its OFFSET, [N, 3]."""
        positions = self.offsets.copy()
        for joint, parent in enumerate(self.parents[1:], start=1):
            positions[joint] += positions[parent]
        return positions

    def positions(self, wanted: Sequence[int]) -> NDArray[np.float64]:
        """Forward kinematics of some joints, [F, wanted, 3]."""
        needed = set()
        for joint in wanted:
            while joint >= 0 and joint not in needed:
                needed.add(joint)
                joint = self.parents[joint]
        starts = [0, *accumulate(len(channels) for channels in self.channels)]
        places: dict[int, NDArray[np.float64]] = {}
        turns: dict[int, NDArray[np.float64]] = {}
        for joint in sorted(needed):
            place = np.tile(self.offsets[joint], (len(self.rows), 1))
            turn = np.tile([0.0, 0.0, 0.0, 1.0], (len(self.rows), 1))
            for column, channel in enumerate(self.channels[joint], start=starts[joint]):
                axis = "XYZ".index(channel[0])
                if channel.endswith("POSITION"):
                    place[:, axis] = self.rows[:, column]
                else:
                    turn = multiply(turn, _about(axis, np.radians(self.rows[:, column])))
            if (parent := self.parents[joint]) >= 0:
                place = places[parent] + rotate(turns[parent], place)
                turn = multiply(turns[parent], turn)
            places[joint], turns[joint] = place, turn
        return np.stack([places[joint] for joint in wanted], axis=1)


def read_bvh_clip(path: Path, mapping_file: Path | None = None) -> Clip:
    """One file as a clip without captions, called as the file is.

    Args:
        path: The file.
        mapping_file: As `BvhFolder` has it.

    Raises:
        ClipError: Missing, damaged, or joints that are not found in it.
    """
    mapping = Mapping({}) if mapping_file is None else read_mapping(mapping_file)
    bvh = read_bvh(path)
    guessed = ""
    try:
        if not mapping.joints:
            mapping = replace(mapping, joints=guess_mapping(bvh.names).joints)
            guessed = format_mapping(mapping, bvh.names)
        found = find_joints(bvh.names, bvh.parents, mapping)
        joints_m = body_joints(found, bvh.positions(found.needed), bvh.rest_positions, mapping)
        if first_frame_is_apart(joints_m, bvh.frame_rate_hz):
            joints_m = joints_m[1:]
        return Clip(path.name, joints_m, (), frame_rate_hz=bvh.frame_rate_hz, take=path.stem, guessed_mapping=guessed)
    except ClipError as error:
        raise ClipError(f"{path}: {error}") from error


def read_bvh(path: Path) -> BvhFile:
    """Read one file.

    Raises:
        ClipError: Missing, damaged, cut off, or not BVH; names the line.
    """
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise ClipError(f"{path}: {size} bytes, at most {MOST_BYTES} are read; cut it into shorter clips")
        with path.open(encoding="utf-8-sig") as file:
            return _Parser(path, file).parse()
    except OSError as error:
        raise ClipError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ClipError(f"{path}: not UTF-8 text ({error.reason}); is it BVH? Save it as UTF-8") from error


class _Parser:
    """Goes through a file line by line, so that what a file claims about itself costs nothing until it is there."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self.path = path
        self.file = file
        self.number = 0
        self.line = ""
        self.names: list[str] = []
        self.parents: list[int] = []
        self.offsets: list[list[float] | None] = []
        self.channels: list[tuple[str, ...] | None] = []

    def parse(self) -> BvhFile:
        self._parse_hierarchy()
        num_channels = sum(len(channels or ()) for channels in self.channels)
        if not num_channels:
            self._fail("no joint has channels, so there is no motion")
        match = re.fullmatch(r"frames\s*:?\s*([0-9]{1,15})", self._next_line("Frames: and their number"), re.IGNORECASE)
        num_frames = int(match[1]) if match else self._fail("expected Frames: and their number")
        if num_frames < 2:
            self._fail("a clip has at least 2 frames")
        match = re.fullmatch(r"frame\s*time\s*:?\s*(\S+)", self._next_line("Frame Time: and seconds"), re.IGNORECASE)
        if not match:
            self._fail("expected Frame Time: and seconds")
        (frame_time_s,) = self._numbers([match[1]], 1)
        if not FRAME_TIME_S[0] <= frame_time_s <= FRAME_TIME_S[1]:
            self._fail(f"expected a frame time between {FRAME_TIME_S[0]} and {FRAME_TIME_S[1]} seconds")
        rows = []
        for line in self._lines():
            if len(rows) == num_frames:
                self._fail(f"expected the end of the file after {num_frames} frames")
            rows.append(self._numbers(line.split(), num_channels))
        if len(rows) < num_frames:
            self._fail(f"the file ends after {len(rows)} of {num_frames} frames")
        rate_hz = 1 / frame_time_s
        if abs(rate_hz - round(rate_hz)) <= RATE_ROUNDING * rate_hz:
            rate_hz = float(round(rate_hz))
        offsets = np.array(self.offsets, dtype=np.float64)
        channels = tuple(channels or () for channels in self.channels)
        return BvhFile(tuple(self.names), tuple(self.parents), offsets, channels, np.stack(rows), rate_hz)

    def _parse_hierarchy(self) -> None:
        if self._next_line("HIERARCHY").upper() != "HIERARCHY":
            self._fail("expected HIERARCHY, the first line of a BVH file")
        # Joints whose brace is open, and the joint whose brace comes next.
        opened: list[int] = []
        waiting = False
        ends: set[int] = set()
        for line in self._lines():
            for part in re.findall(r"[{}]|[^{}\s][^{}]*", line):
                keyword, *words = part.split()
                match keyword.upper():
                    case "{" if waiting:
                        opened.append(len(self.names) - 1)
                        waiting = False
                    case _ if waiting:
                        self._fail(f"expected {{ after {self.names[-1][:40]!r}")
                    case "}" if opened:
                        if self.offsets[joint := opened.pop()] is None:
                            self._fail(f"{self.names[joint][:40]!r} has no OFFSET")
                    case "ROOT" if words and not self.names:
                        self._add(" ".join(words), -1)
                        waiting = True
                    case "JOINT" if words and opened and opened[-1] not in ends:
                        self._add(" ".join(words), opened[-1])
                        waiting = True
                    case "END" if opened and opened[-1] not in ends:
                        self._add(f"{self.names[opened[-1]]}{END_SITE}", opened[-1])
                        self.channels[-1] = ()
                        ends.add(len(self.names) - 1)
                        waiting = True
                    case "OFFSET" if opened and self.offsets[opened[-1]] is None:
                        self.offsets[opened[-1]] = self._numbers(words, 3).tolist()
                    case "CHANNELS" if opened and self.channels[opened[-1]] is None:
                        self.channels[opened[-1]] = self._channel_names(words)
                        # Numbers of a frame come in the order in which the channels are written.
                        if opened[-1] != len(self.names) - 1:
                            self._fail("CHANNELS come before the joints below")
                    case "MOTION" if self.names and not opened and not words:
                        return
                    case _:
                        self._fail("not expected here")
        self._fail("the file ends inside the skeleton")

    def _add(self, name: str, parent: int) -> None:
        if len(self.names) == MOST_JOINTS:
            self._fail(f"more than {MOST_JOINTS} joints")
        self.names.append(name)
        self.parents.append(parent)
        self.offsets.append(None)
        self.channels.append(None)

    def _channel_names(self, words: list[str]) -> tuple[str, ...]:
        count, names = words[:1], tuple(word.upper() for word in words[1:])
        if count != [str(len(names))] or len(set(names)) != len(names):
            self._fail("expected CHANNELS, their number, and so many different names")
        if not all(_CHANNEL.fullmatch(name) for name in names):
            self._fail("channels are Xposition, Yposition, Zposition, Xrotation, Yrotation and Zrotation")
        return names

    def _numbers(self, words: list[str], count: int) -> NDArray[np.float64]:
        if len(words) != count:
            self._fail(f"expected {count} numbers, got {len(words)}")
        try:
            numbers = np.array([float(word) for word in words])
        except ValueError:
            self._fail("expected numbers with a decimal point")
        # Written so that a NaN fails too.
        if not np.abs(numbers).max() <= LARGEST:
            self._fail(f"a number is not finite, or larger than {LARGEST:.0g}")
        return numbers

    def _next_line(self, expected: str) -> str:
        line = next(self._lines(), None)
        return line if line is not None else self._fail(f"the file ends where {expected} was expected")

    def _lines(self) -> Iterator[str]:
        """Lines that are not blank, without white space around them."""
        while text := self.file.readline(LONGEST_LINE):
            self.number += 1
            self.line = text.strip()
            if len(text) == LONGEST_LINE:
                self._fail(f"a line of more than {LONGEST_LINE} characters")
            if self.line:
                yield self.line

    def _fail(self, problem: str) -> NoReturn:
        raise ClipError(f"{self.path}:{self.number}: {problem}; the line is {self.line[:60]!r}")


def _read_listing(path: Path) -> list[str]:
    """Names of a split: a line each, because file names may hold spaces."""
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ClipError(f"{path}: not UTF-8 text ({error}); save it as UTF-8") from error


def _clip_id(name: str) -> str:
    return name.replace("/", "_")


def _about(axis: int, angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turns about an axis, [F] -> [F, 4]."""
    turns = np.zeros((len(angles), 4))
    turns[:, axis], turns[:, 3] = np.sin(angles / 2), np.cos(angles / 2)
    return turns
