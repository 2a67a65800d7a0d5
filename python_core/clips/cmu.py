"""Reads the CMU motion capture database, in its original form, with the captions of HumanML3D.

    SUBJECTS/NN/NN.asf       the skeleton of a subject
    SUBJECTS/NN/NN_TT.amc    a take of it, 120 or 60 frames a second
    ANNOTATIONS/texts/ID.txt, train.txt, val.txt, ...    as `humanml3d` reads them
    ANNOTATIONS/index.csv    source_path,start_frame,end_frame,new_name: where each clip was cut; HumanML3D's
                             repository holds it beside the folder of the texts, and there it is found too

Neither needs a registration, and both are free for commercial use, unlike AMASS, which holds the same takes fitted to
another body. `index.csv` names AMASS's files and counts frames at 20 a second. Its split files list the ids of all data
sets of HumanML3D, and mirrored copies, whose ids begin with M; `left_out` says which are not read.

CMU's skeleton in the pose with all angles 0 faces +Z, +Y up, its left (lfemur, lhumerus, ...) at +X, as in our space;
only inches become metres. Joints of limbs are ends of bones. The trunk needs more care, as our spine bends elsewhere:

- spine1 is half way along lowerback and a little behind it. So the pelvis leans by -5 and -7 degrees in frames of walks
  of subjects 7 and 35, as it does in walks that were fitted to HumanML3D's means (-5); from the end of lowerback by +5.
- spine3 and neck lie on the line that our chest has between them, through the end of thorax, turned with thorax. By
  ends of bones a nod of lowerneck would bend the chest.
- head is at our own distance from the neck, turned with CMU's head.
- collars are on the clavicles, where ours are between chest and shoulder.

Source: Carnegie Mellon University Graphics Lab, mocap.cs.cmu.edu; Guo et al. 2022, HumanML3D.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from python_core.clips.asf_amc import AcclaimSkeleton, bone_turns_and_ends, read_amc, read_asf
from python_core.clips.clip import Clip, ClipError, naming
from python_core.clips.humanml3d import FRAME_RATE_HZ, dataset_of, read_captions, read_split
from python_core.clips.humanml3d_cuts import Cut, read_cuts
from python_core.contract.skeleton import BODY_22

SOURCE = "cmu"
LICENCE = "CMU mocap: free for all uses (mocap.cs.cmu.edu); captions: HumanML3D, MIT"
CREDIT = (
    "The data used in this project was obtained from mocap.cs.cmu.edu. The database was created with funding from NSF "
    "EIA-0196217."
)
"""Goes wherever what was made from these clips goes."""

SUBJECTS_AT_60_HZ = ("60", "61", "88", "139")
"""The others are at 120. Ends of clips lie within their takes only so."""
MISSING_FRAMES = 3
"""A take may end this much before a clip of it does, at 20 frames a second: copies of takes differ by so much."""

_OF_TWO = {"18_19_rory": ("18", "19"), "20_21_rory1": ("20", "21"), "22_23_rory": ("22", "23")}
"""AMASS's folders of takes with two people where it names the takes of the second by the number of the first, in lower
case. That Rory is the second, B, follows from what B does by CMU's list: he is pulled and resists in 18_03, and not he
but Justin threatens with a stool in 22_20.
"""
_SOURCE_PATH = re.compile(r"(?:.*/)?CMU/([^/]+)/(\d{2,3})_(\d{2,3})_(?:poses|stageii)\.np[yz]", re.ASCII)

_BONE_ENDS = {
    "pelvis": "root",
    "l_hip": "lhipjoint",
    "r_hip": "rhipjoint",
    "spine1": "lowerback",
    "l_knee": "lfemur",
    "r_knee": "rfemur",
    "spine2": "upperback",
    "l_ankle": "ltibia",
    "r_ankle": "rtibia",
    "spine3": "thorax",
    "l_foot": "lfoot",
    "r_foot": "rfoot",
    "neck": "thorax",
    "l_collar": "thorax",
    "r_collar": "thorax",
    "head": "head",
    "l_shoulder": "lclavicle",
    "r_shoulder": "rclavicle",
    "l_elbow": "lhumerus",
    "r_elbow": "rhumerus",
    # CMU cuts the lower arm in two so that it can twist: lwrist is its last third and ends at the wrist.
    "l_wrist": "lwrist",
    "r_wrist": "rwrist",
}
"""The bone at whose end a joint is, or from whose end it is measured."""
_SPINE1_ALONG, _SPINE1_BACK_M = 0.5, 0.02
"""How far along lowerback spine1 is, and how far behind it, along the root's own Z."""
_CHEST_BELOW, _CHEST_ABOVE = 0.3, 0.45
"""Of our bone from spine3 to neck, what lies below and above the end of thorax; CMU's chest is shorter than ours."""
_COLLAR = 0.38
"""How far along the clavicle the collar is: where ours is between the middle and the shoulder."""


@dataclass(frozen=True)
class CmuArchive:
    """Reader of the layout above; a name is an id of HumanML3D."""

    subjects: Path
    annotations: Path

    def names(self, split: str) -> list[str]:
        if not self.subjects.is_dir():
            raise ClipError(f"{self.subjects}: missing; unpack CMU's archive so that this folder holds 01/01.asf")
        return [clip_id for clip_id, reason in self._listed(split) if not reason]

    def left_out(self, split: str) -> list[tuple[str, str]]:
        """Ids of a split that `names` leaves out, each with the reason.

        Raises:
            ClipError: There is no such split, or no index.csv.
        """
        return [(clip_id, reason) for clip_id, reason in self._listed(split) if reason]

    def read(self, name: str) -> list[Clip]:
        cuts = read_cuts(self.annotations)
        if name not in cuts:
            raise ClipError(f"clip {name}: not in {self.annotations}'s index.csv")
        cut = cuts[name]
        with naming(self.annotations):
            subject, take = _take(name, cut.source_path)
        texts = self.annotations / "texts"
        if not texts.is_dir() and (self.annotations / "texts.zip").is_file():
            raise ClipError(f"{texts}: missing; unpack texts.zip beside it")
        captions = read_captions(texts / f"{name}.txt")
        skeleton_path = self.subjects / subject / f"{subject}.asf"
        skeleton = read_asf(skeleton_path)
        take_path = self.subjects / subject / f"{take}.amc"
        stride = round((60 if subject in SUBJECTS_AT_60_HZ else 120) / FRAME_RATE_HZ)
        channels = read_amc(take_path, skeleton)[::stride]
        if not 0 <= cut.first < cut.end <= len(channels) + MISSING_FRAMES:
            raise ClipError(
                f"{take_path}: {len(channels)} frames at {FRAME_RATE_HZ:.0f} Hz, expected clip {name} from frame "
                f"{cut.first} to {cut.end} in it; is the file whole?"
            )
        joints_m = body_joints(skeleton_path, skeleton, channels[cut.first : cut.end])
        with naming(take_path):
            return [Clip(name, joints_m, captions, SOURCE, LICENCE, FRAME_RATE_HZ, take)]

    def _listed(self, split: str) -> list[tuple[str, str]]:
        """All ids of a split, each with the reason to leave it out, which is empty for those that are read."""
        cuts = read_cuts(self.annotations)
        return [(clip_id, _reason_against(clip_id, cuts)) for clip_id in read_split(self.annotations, split)]


def body_joints(path: Path, skeleton: AcclaimSkeleton, channels: NDArray[np.float64]) -> NDArray[np.float32]:
    """Joints of the 22-joint body from a motion of CMU's skeleton.

    Args:
        path: Where the skeleton came from, for the error.
        channels: As `read_amc` returns them, [F, N].

    Returns:
        Metres in our space, as recorded: neither on the floor nor turned, [F, J, 3].

    Raises:
        ClipError: The skeleton lacks a bone that CMU's has.
    """
    places = {bone.name: place for place, bone in enumerate(skeleton.bones)}
    if missing := sorted(set(_BONE_ENDS.values()) - set(places)):
        raise ClipError(f"{path}: not CMU's skeleton, it has no {', '.join(missing)}")
    turns, ends = bone_turns_and_ends(skeleton, channels)
    joints = np.stack([ends[places[_BONE_ENDS[name]]] for name in BODY_22.joint_names], axis=1)

    def turned(bone: str, offset: NDArray[np.float64]) -> NDArray[np.float64]:
        return turns[places[bone]] @ offset

    offsets = BODY_22.offsets_m.astype(np.float64)
    at = {name: joint for joint, name in enumerate(BODY_22.joint_names)}
    pelvis, spine1 = at["pelvis"], at["spine1"]
    joints[:, spine1] = joints[:, pelvis] + _SPINE1_ALONG * (joints[:, spine1] - joints[:, pelvis])
    joints[:, spine1] += turned("root", np.array([0.0, 0.0, -_SPINE1_BACK_M]))
    chest = turned("thorax", offsets[at["neck"]])
    joints[:, at["spine3"]] -= _CHEST_BELOW * chest
    joints[:, at["neck"]] += _CHEST_ABOVE * chest
    joints[:, at["head"]] = joints[:, at["neck"]] + turned("head", offsets[at["head"]])
    for side in ("l", "r"):
        collar, shoulder = at[f"{side}_collar"], at[f"{side}_shoulder"]
        joints[:, collar] += _COLLAR * (joints[:, shoulder] - joints[:, collar])
    return joints.astype(np.float32)


def _take(clip_id: str, source_path: str) -> tuple[str, str]:
    """Subject and take of a file of AMASS, for example 01 and 01_05."""
    match = _SOURCE_PATH.fullmatch(source_path)
    if match is None:
        raise ClipError(f"clip {clip_id}: index.csv says {source_path!r}, expected .../CMU/NN/NN_TT_poses.npy")
    folder, subject, trial = match.groups()
    first, second = _OF_TWO.get(folder.lower(), ("", ""))
    subject = second if subject == first else subject
    return subject, f"{subject}_{trial}"


def _reason_against(clip_id: str, cuts: Mapping[str, Cut]) -> str:
    """Why an id of HumanML3D is no clip of CMU, or empty."""
    cut = cuts.get(clip_id.removeprefix("M"))
    if cut is None:
        return "not in index.csv"
    if (dataset := dataset_of(cut.source_path)) != "CMU":
        return f"of another data set: {dataset}"
    return "mirrored copy; prepare --mirror makes those of the train split" if clip_id.startswith("M") else ""
