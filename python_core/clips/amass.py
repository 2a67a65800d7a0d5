"""Reads AMASS: recordings of the SMPL bodies, and the cuts and captions that HumanML3D made of them.

    DATASET/SUBJECT/RECORDING.npz   poses [F, 156] (SMPL+H; 165 SMPL-X, 72 SMPL), turns of the joints as axis times
                                    radians; trans [F, 3] metres; betas; gender; mocap_framerate or mocap_frame_rate
    annotations/index.csv           source_path, start_frame, end_frame, new_name; frames of 20 a second
    annotations/texts/ID.txt        captions, as in HumanML3D; annotations/train.txt, ...: ids of a split

Without a body model the joints are those of a mean body, `smpl.MEAN_BODY`, for everybody: the motion is right, the
proportions are not the person's, so hands and feet are some centimetres off and may slide a little. With a body model
the joints are exact.

Files are +Z up. (x, y, z) becomes (-x, z, y), a rotation, as in HumanML3D's scripts: left stays left.

Source: Mahmood et al. 2019, AMASS; Loper et al. 2015, SMPL; Guo et al. 2022, HumanML3D.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from python_core.clips.arrays import npz_members, read_npy, read_npz_numbers, read_npz_word, to_float32
from python_core.clips.clip import FARTHEST_M, Clip, ClipError, naming
from python_core.clips.humanml3d import FRAME_RATE_HZ, HUMANACT12, read_captions, read_split
from python_core.clips.humanml3d_cuts import read_cuts
from python_core.clips.layouts import list_files
from python_core.clips.licences import AMASS_LICENCE, HUMANACT12_LICENCE
from python_core.clips.smpl import NUM_SHAPES, mean_rest_joints, own_rest_joints, pose_body
from python_core.contract.skeleton import BODY_22
from python_core.features import mirror_joints

logger = logging.getLogger(__name__)


WIDTHS = (156, 165, 72)
"""Numbers a frame of SMPL+H, SMPL-X and SMPL. The first 22 joints are the same in all."""

LEAD_IN_S = {
    "Eyes_Japan_Dataset": 3.0,
    "MPI_HDM05": 3.0,
    "TotalCapture": 1.0,
    "MPI_Limits": 1.0,
    "Transitions_mocap": 0.5,
}
"""What HumanML3D cuts off the start of a recording, a T-pose, before it counts frames."""

SPLITS = {
    "val": ("HumanEva", "MPI_HDM05", "SFU", "MPI_mosh"),
    "test": ("Transitions_mocap", "SSM_synced"),
}
"""AMASS's own split, by dataset; the others are for training."""

_NAMES_SINCE = {
    "BioMotionLab_NTroje": "BMLrub",
    "DFaust_67": "DFaust",
    "Eyes_Japan_Dataset": "EyesJapanDataset",
    "MPI_HDM05": "HDM05",
    "MPI_Limits": "PosePrior",
    "MPI_mosh": "MoSh",
    "SSM_synced": "SSM",
    "TCD_handMocap": "TCDHands",
    "Transitions_mocap": "Transitions",
}
"""Datasets that AMASS has renamed: HumanML3D and BABEL know the old names."""
_NAMES_BEFORE = {new: old for old, new in _NAMES_SINCE.items()}

_HIGHEST_RATE_HZ = 1000.0
_LARGEST = 1000.0
"""No turn in radians and no number of a shape is beyond this, unless the file is damaged."""


@dataclass(frozen=True)
class AmassFolder:
    """Reader of the layout above.

    Without `annotations` a name is a recording's path inside the folder, and its clip, whole and at its own rate, has
    no captions. With them a name is a HumanML3D id, because cuts of one recording can be in different splits; a clip
    takes every n-th frame of its recording, n = 20 into its rate, as HumanML3D does, and keeps the rate that gives.
    """

    folder: Path
    body_model: Path | None = None
    """Folder of body models, or one `.npz`; None: the mean body."""
    annotations: Path | None = None

    def __post_init__(self) -> None:
        if self.body_model is None:
            logger.info("%s: %s; give --body-model for each person's own", self.folder, self.assumed)

    @property
    def assumed(self) -> str:
        """What is taken for granted about the joints of recordings."""
        return "joints of a mean body for everybody" if self.body_model is None else ""

    def names(self, split: str) -> list[str]:
        """Ids of a split if there are annotations, else recordings by AMASS's own split: train, val or test.

        Raises:
            ClipError: There is no such split, or no recording.
        """
        if self.annotations is not None:
            return read_split(self.annotations, split)
        if split not in ("train", *SPLITS):
            raise ClipError(f"{self.folder}: no split {split!r}; AMASS has train, val and test")
        files = (path for path in list_files(self.folder) if path.suffix == ".npz" and _has_motion(path))
        paths = sorted(path.relative_to(self.folder) for path in files)
        if not paths:
            raise ClipError(f"{self.folder}: no recording; expected DATASET/SUBJECT/RECORDING.npz")
        return [path.as_posix() for path in paths if _split(path) == split]

    def read(self, name: str) -> list[Clip]:
        if self.annotations is None:
            return [self.recording(name)]
        return [_read_cut(self, self.annotations, name)]

    def recording(self, path: str) -> Clip:
        """A whole recording at its own rate, without captions.

        Args:
            path: Inside the folder. Old and new names of datasets, folders inside a folder of the same dataset, and
                both endings, `_poses.npz` and `_stageii.npz`, find the same recording.

        Raises:
            ClipError: There is none, or it is not an AMASS recording.
        """
        found = _find(self.folder, path)
        joints_m, rate_hz = _read_recording(found, self.body_model, most_hz=None)
        name = found.relative_to(self.folder)
        # The id begins with a letter of its own: an `M` would say that the clip is mirrored.
        with naming(found):
            return Clip(
                f"amass/{name.with_suffix('').as_posix()}",
                joints_m,
                (),
                name.parts[0],
                AMASS_LICENCE,
                rate_hz,
                str(name),
                assumed=self.assumed,
            )


def _read_cut(reader: AmassFolder, annotations: Path, clip_id: str) -> Clip:
    cut = read_cuts(annotations).get(clip_id.removeprefix("M"))
    if cut is None:
        raise ClipError(f"{annotations}: index.csv has no line for {clip_id}")
    captions = read_captions(annotations / "texts" / f"{clip_id}.txt")
    if HUMANACT12 in cut.source_path:
        # These are joints already, in our space, uncut.
        joints_m, rate_hz, take = _read_humanact12(reader.folder, cut.source_path), FRAME_RATE_HZ, cut.source_path
        source, licence, assumed = "HumanAct12", HUMANACT12_LICENCE, ""
    else:
        if not 0 <= cut.first < cut.end:
            raise ClipError(
                f"{annotations}: clip {clip_id}: index.csv ends it before it starts, from {cut.first} to {cut.end}"
            )
        found = _find(reader.folder, cut.source_path)
        joints_m, rate_hz = _read_recording(found, reader.body_model, most_hz=FRAME_RATE_HZ)
        lead_in = int(_lead_in_s(found.relative_to(reader.folder)) * FRAME_RATE_HZ)
        joints_m = joints_m[lead_in:][cut.first : cut.end]
        take = str(found.relative_to(reader.folder))
        source, licence, assumed = found.relative_to(reader.folder).parts[0], AMASS_LICENCE, reader.assumed
    # HumanML3D counts captions' seconds in frames of 20 a second, also where the stride gives another rate.
    slower = FRAME_RATE_HZ / rate_hz
    captions = tuple(
        replace(caption, start_s=caption.start_s * slower, end_s=caption.end_s * slower) for caption in captions
    )
    if mirrored := clip_id.startswith("M"):
        joints_m = mirror_joints(joints_m)
    with naming(reader.folder / take):
        return Clip(clip_id, joints_m, captions, source, licence, rate_hz, take, mirrored=mirrored, assumed=assumed)


def _read_humanact12(folder: Path, path: str) -> NDArray[np.float32]:
    found = folder.joinpath(*_parts(path))
    if not found.is_file():
        raise ClipError(f"{found}: missing; HumanML3D's pose_data has the clips of HumanAct12")
    joints_m = read_npy(found)
    if joints_m.ndim != 3 or joints_m.shape[1] < BODY_22.num_joints or joints_m.shape[2] != 3:
        raise ClipError(f"{found}: expected [F, {BODY_22.num_joints} or more, 3], got {list(joints_m.shape)}")
    return joints_m[:, : BODY_22.num_joints]


def _read_recording(path: Path, body_model: Path | None, most_hz: float | None) -> tuple[NDArray[np.float32], float]:
    """Joints of a recording in our space, [F, J, 3], and their rate; of every n-th frame, to come down to a rate."""
    members = npz_members(path)
    rate_name = next((name for name in ("mocap_framerate", "mocap_frame_rate") if name in members), None)
    if rate_name is None or not {"poses", "trans"} <= members:
        raise ClipError(
            f"{path}: expected poses, trans and mocap_framerate, got {', '.join(sorted(members)) or 'nothing'}"
        )
    rate = read_npz_numbers(path, rate_name)
    if rate.size != 1 or not 1 <= rate.item() <= _HIGHEST_RATE_HZ:
        raise ClipError(f"{path}: {rate_name} must be 1 to {_HIGHEST_RATE_HZ:.0f}, got {rate.reshape(-1)[:3]}")
    poses, trans_m = (read_npz_numbers(path, name) for name in ("poses", "trans"))
    if poses.ndim != 2 or poses.shape[1] not in WIDTHS or trans_m.shape != (len(poses), 3):
        raise ClipError(
            f"{path}: expected poses [F, {' or '.join(map(str, WIDTHS))}] and trans [F, 3], "
            f"got {list(poses.shape)} and {list(trans_m.shape)}"
        )
    stride = 1 if most_hz is None else max(1, int(rate.item() / most_hz))
    turns = poses[::stride, : 3 * BODY_22.num_joints].reshape(-1, BODY_22.num_joints, 3)
    trans_m = trans_m[::stride]
    for name, numbers, most in (("poses", turns, _LARGEST), ("trans", trans_m, FARTHEST_M)):
        # Written so that a NaN fails too.
        if not (np.abs(numbers) <= most).all():
            raise ClipError(f"{path}: {name} hold numbers that are not finite, or beyond {most:.0f}")
    rest_m = mean_rest_joints() if body_model is None else _own_rest_joints(path, members, body_model)
    return to_float32(_y_up(pose_body(rest_m, turns, trans_m))), rate.item() / stride


def _own_rest_joints(path: Path, members: frozenset[str], body_model: Path) -> NDArray[np.float64]:
    if missing := sorted({"betas", "gender"} - members):
        raise ClipError(f"{path}: no {' and no '.join(missing)}, which choose the body; read it with the mean body")
    betas = read_npz_numbers(path, "betas").reshape(-1)[:NUM_SHAPES]
    if not (np.abs(betas) <= _LARGEST).all():
        raise ClipError(f"{path}: betas that are not finite, or beyond {_LARGEST:.0f}")
    return own_rest_joints(body_model, read_npz_word(path, "gender"), betas)


def _y_up(z_up: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn +Z up into +Y up, [..., 3]."""
    return z_up[..., [0, 2, 1]] * np.array([-1.0, 1.0, 1.0])


def _has_motion(path: Path) -> bool:
    """AMASS also keeps shapes, without motion."""
    return path.name != "shape.npz" and not path.stem.endswith("_stagei")


def _split(path: Path) -> str:
    names = {_NAMES_BEFORE.get(part, part) for part in path.parts}
    return next((split for split, datasets in SPLITS.items() if names & set(datasets)), "train")


def _lead_in_s(path: Path) -> float:
    return next((LEAD_IN_S[old] for part in path.parts if (old := _NAMES_BEFORE.get(part, part)) in LEAD_IN_S), 0.0)


def _find(folder: Path, path: str) -> Path:
    for candidate in _spellings(_parts(path)):
        try:
            if (found := folder.joinpath(*candidate)).is_file():
                return found
        except OSError as error:
            raise ClipError(f"{folder}: {path[:80]!r} is no path ({error.strerror})") from error
    raise ClipError(f"{folder}: no recording {path[:200]!r}, under its old or new name; download that dataset of AMASS")


def _parts(path: str) -> tuple[str, ...]:
    """Path inside the folder; HumanML3D's scripts keep it in `pose_data`."""
    parts = tuple(part for part in PurePosixPath(path).parts if part not in ("pose_data", "amass_data"))
    if not parts or "/" in parts or ".." in parts:
        raise ClipError(f"expected a path inside the folder of AMASS, got {path[:80]!r}")
    return parts


def _spellings(parts: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """How a recording may be called: as it is; its dataset renamed, wrapped in a folder, or out of it; both endings."""
    recording = parts[-1].removesuffix(".npy").removesuffix(".npz")
    ending_2 = f"{recording.removesuffix('_poses')}_stageii".replace(" ", "_")
    for inner in (parts[:-1], parts[1:-1]):
        if not inner:
            yield (f"{recording}.npz",)
            continue
        dataset, *folders = inner
        for name in dict.fromkeys((dataset, _NAMES_SINCE.get(dataset, dataset), _NAMES_BEFORE.get(dataset, dataset))):
            for outer in ((name,), (name, name), (name, _NAMES_BEFORE.get(name, name))):
                yield (*outer, *folders, f"{recording}.npz")
                yield (*outer, *(part.replace(" ", "_") for part in folders), f"{ending_2}.npz")
