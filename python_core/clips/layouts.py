"""Which layout a folder of clips is in, seen from what it holds.

HumanML3D    new_joints/ID.npy of 22 joints, or new_joint_vecs/ID.npy of 263 numbers
KIT-ML       the same of 21 joints, or 251 numbers
CMU          subjects/NN/NN.asf, with index.csv and texts/ of HumanML3D in the folder or in annotations/
BABEL        train.json or val.json, with the .npz files of AMASS in the folder or in amass/
AMASS        .npz files at any depth, with index.csv and texts/ of HumanML3D in the folder or in annotations/
BVH          .bvh files at any depth; mapping.toml in the folder, if any, says which joint is which
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from python_core.clips.clip import ClipError, ClipReader

_LOOKED_FOR = (
    "new_joints/*.npy or new_joint_vecs/*.npy (HumanML3D, KIT-ML), subjects/NN/NN.asf (CMU), train.json or val.json "
    "(BABEL), *.npz (AMASS), *.bvh"
)
_HUMANML3D_FRAMES = ((22, 3), (263,))
_KIT_FRAMES = ((21, 3), (251,))
_FILES_TRIED = 20
"""A folder may begin with damaged files."""


def open_folder(path: Path, body_model: Path | None = None) -> ClipReader:
    """A reader for the layout of a folder. What it reads is checked clip by clip, later.

    Args:
        path: The folder.
        body_model: Of AMASS's recordings, as `AmassFolder` takes it; other layouts need none.

    Raises:
        ClipError: There is no such folder, it is in no layout that we read, or lacks a part of its layout.
    """
    if not path.is_dir():
        raise ClipError(f"{path}: no such folder; clips come as a folder in one of the layouts that README lists")
    if (path / "new_joints").is_dir() or (path / "new_joint_vecs").is_dir():
        if _shape_of_frames(path) in _KIT_FRAMES:
            from python_core.clips.kit import KitFolder

            return KitFolder(path)
        from python_core.clips.humanml3d import HumanML3DFolder

        return HumanML3DFolder(path)
    if any((path / "subjects").glob("*/*.asf")):
        from python_core.clips.cmu import CmuArchive

        annotations = _annotations(path)
        if annotations is None:
            raise ClipError(
                f"{path}: subjects/ of CMU, but no index.csv and texts/; put those of HumanML3D's repository, with its "
                f"split files, into {path / 'annotations'}"
            )
        return CmuArchive(path / "subjects", annotations)
    if any((path / f"{split}.json").is_file() for split in ("train", "val")):
        from python_core.clips.amass import AmassFolder
        from python_core.clips.babel import BabelFolder

        motions = path / "amass" if (path / "amass").is_dir() else path
        if not _has_file(motions, ".npz"):
            raise ClipError(
                f"{path}: labels of BABEL, but no .npz files of AMASS in it; put them into {path / 'amass'}"
            )
        return BabelFolder(path, AmassFolder(motions, body_model))
    if _has_file(path, ".npz"):
        from python_core.clips.amass import AmassFolder

        return AmassFolder(path, body_model, _annotations(path))
    if _has_file(path, ".bvh"):
        from python_core.clips.bvh import BvhFolder
        from python_core.clips.joint_names import MAPPING_FILE

        mapping = path / MAPPING_FILE
        return BvhFolder(path, mapping if mapping.is_file() else None)
    raise ClipError(f"{path}: no clips in a layout that we read; looked for {_LOOKED_FOR}")


def list_files(folder: Path) -> Iterator[Path]:
    """Files of a folder at any depth, always in the same order. Links are followed, hidden files left out."""
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        # A link may lead back to where the walk has been.
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in sorted(names) if not name.startswith("."))


def _shape_of_frames(folder: Path) -> tuple[int, ...]:
    """Shape of one frame in the first file that is whole and of a layout.

    Raises:
        ClipError: Among the first files, none is.
    """
    found = []
    for part in ("new_joints", "new_joint_vecs"):
        for path in sorted((folder / part).glob("*.npy"))[:_FILES_TRIED]:
            try:
                shape = np.lib.format.open_memmap(path, mode="r").shape[1:]
            except (ValueError, EOFError):
                found.append(f"{path.name} is not an .npy file of numbers")
                continue
            if shape in _HUMANML3D_FRAMES + _KIT_FRAMES:
                return shape
            found.append(f"{path.name} has frames of {list(shape)}")
    raise ClipError(
        f"{folder}: expected frames of [22, 3] or [263] (HumanML3D), of [21, 3] or [251] (KIT-ML) in new_joints/ or "
        f"new_joint_vecs/, got {'; '.join(found[:3]) or 'no .npy file'}"
    )


def _annotations(folder: Path) -> Path | None:
    """Where the texts of HumanML3D are, with index.csv in the same place or beside it."""
    for place in (folder, folder / "annotations", folder / "HumanML3D"):
        has_texts = (place / "texts").is_dir() or (place / "texts.zip").is_file()
        if has_texts and any((where / "index.csv").is_file() for where in (place, place.parent)):
            return place
    return None


def _has_file(folder: Path, suffix: str) -> bool:
    return any(path.suffix.lower() == suffix for path in list_files(folder))
