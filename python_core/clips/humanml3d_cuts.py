"""Which frames of which recording HumanML3D's clips are: index.csv, in the folder of its texts or beside it."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from python_core.clips.clip import ClipError
from python_core.clips.humanml3d import CUT_COLUMNS, read_table

_WHOLE_NUMBER = re.compile(r"-?\d{1,9}", re.ASCII)
_NEW_NAME = re.compile(r"(\w{1,32})\.npy", re.ASCII)


@dataclass(frozen=True)
class Cut:
    """A row of index.csv. Frames are counted at 20 a second; the end is not part of the clip."""

    source_path: str
    first: int
    end: int


def read_cuts(annotations: Path) -> dict[str, Cut]:
    """Where clips were cut, by id.

    Args:
        annotations: The folder of `texts`.

    Raises:
        ClipError: There is no index.csv, it is no such table, or an id is there twice.
    """
    for path in (annotations / "index.csv", annotations.parent / "index.csv"):
        if path.is_file():
            return read_cut_table(path)
    raise ClipError(f"{annotations}: no index.csv in it or beside it; both come with a clone of HumanML3D's repository")


@cache
def read_cut_table(path: Path) -> dict[str, Cut]:
    """The same from one file."""
    cuts: dict[str, Cut] = {}
    for number, (source_path, first, end, new_name) in enumerate(read_table(path, CUT_COLUMNS), start=2):
        if not (_WHOLE_NUMBER.fullmatch(first) and _WHOLE_NUMBER.fullmatch(end)):
            raise ClipError(f"{path}:{number}: expected two whole frames, got {first[:40]!r}, {end[:40]!r}")
        name = _NEW_NAME.fullmatch(new_name)
        if name is None:
            raise ClipError(f"{path}:{number}: expected a name such as 000004.npy, got {new_name[:40]!r}")
        if name.group(1) in cuts:
            raise ClipError(f"{path}:{number}: clip {name.group(1)} for the second time")
        cuts[name.group(1)] = Cut(source_path, int(first), int(end))
    return cuts
