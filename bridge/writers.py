"""Files that a clip can become, chosen by their extension."""

import os
from collections.abc import Iterable
from pathlib import Path

from bridge.bvh import write_bvh
from bridge.clip import Clip
from python_core.contract.motion import write_motion
from python_core.pictures import Row, Strip, write_gif, write_sheet, write_webp

WRITERS = {
    ".bvh": lambda path, clip: write_bvh(path, clip.motion),
    ".npz": lambda path, clip: write_motion(path, clip.motion, clip.codes),
    ".gif": lambda path, clip: write_gif(path, _row(clip)),
    ".webp": lambda path, clip: write_webp(path, _row(clip)),
    ".png": lambda path, clip: write_sheet(path, [_row(clip)]),
}


def check_paths(paths: Iterable[Path]) -> None:
    """Refuse files that cannot be written, before anything is generated.

    Raises:
        ValueError: An extension is unknown, a folder does not exist, or a file cannot be written.
    """
    for path in paths:
        if path.suffix.lower() not in WRITERS:
            raise ValueError(
                f"{path}: cannot write {path.suffix or 'a file without extension'}; known are {', '.join(WRITERS)}"
            )
        if not path.parent.is_dir():
            raise ValueError(f"{path}: the folder {path.parent} does not exist; make it first")
        if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
            raise ValueError(f"{path}: cannot be written; choose another file")


def write_clip(path: Path, clip: Clip) -> None:
    """Write a clip in the form that the extension names.

    Raises:
        ValueError: The extension is unknown, or the folder does not exist.
    """
    check_paths([path])
    try:
        WRITERS[path.suffix.lower()](path, clip)
    except OSError as error:
        raise ValueError(f"{path}: cannot be written ({error.strerror}); choose another file") from error


def _row(clip: Clip) -> Row:
    return Row(title=clip.prompt, strips=(Strip(motion=clip.motion, plan=clip.plan),))
