"""A clip: a motion as joint positions with what people said about it, and the form that readers of clip files share."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from python_core.contract.plan import Plan, format_plan, parse_plan
from python_core.contract.skeleton import BODY_22
from python_core.features import mirror_joints

FARTHEST_M = 1000.0
"""No joint of a clip is farther from the origin: a file in other units, or damaged."""

_SIDES = re.compile(r"\b(?:left|right|clockwise|(?:counter|anti)[ -]?clockwise)(?=\b|ward)", re.IGNORECASE)
_PART = re.compile(r"(.+)@(\d+)-\d+", re.ASCII | re.DOTALL)
_SWAPS = {"left": "right", "right": "left", "clockwise": "counterclockwise"}


class ClipError(ValueError):
    """A clip that cannot be read; names the file, what it holds and what it should hold."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file or folder that is read before a `ClipError` that does not name it: a clip that checks itself knows
    none.
    """
    try:
        yield
    except ClipError as error:
        if str(path) in str(error):
            raise
        raise ClipError(f"{path}: {error}") from error


@dataclass(frozen=True)
class Caption:
    """A sentence about a clip, or about a part of it."""

    text: str
    start_s: float = 0.0
    end_s: float = 0.0
    """0 and 0 mean the whole clip."""
    tagged: str = ""
    """Its words with their parts of speech, `a/DET man/NOUN walk/VERB`, where its text file says them."""


@dataclass(frozen=True, eq=False)
class Clip:
    """A motion as joint positions, with what people said about it.

    Raises:
        ClipError: The joints are not those of the 22-joint body, fewer than 2 frames, not finite or out of reach, or
            the frame rate is not a rate.
    """

    clip_id: str
    joints_m: NDArray[np.float32]
    """Joints of the 22-joint body in our space, +Y up, in metres, [F, J, 3]."""
    captions: tuple[Caption, ...]
    source: str = "unknown"
    licence: str = "unknown"
    frame_rate_hz: float = 20.0
    """As recorded; `prepare` brings all clips to one rate."""
    take: str = ""
    """The recording that the clip was cut from, where that is known."""
    plan: Plan | None = None
    """What happens when, where that is known exactly."""
    mirrored: bool = False
    """Whether left and right are exchanged against the recording."""
    assumed: str = ""
    """What the reader took for granted about the joints, in a few words: `joints of a mean body`."""
    guessed_mapping: str = ""
    """The text of a mapping file, where the reader guessed from names which joints of a skeleton are ours."""

    def __post_init__(self) -> None:
        shape = self.joints_m.shape
        if len(shape) != 3 or shape[1:] != (BODY_22.num_joints, 3) or len(self.joints_m) < 2:
            raise ClipError(
                f"clip {self.clip_id}: expected 2 frames or more of joints [F, {BODY_22.num_joints}, 3], got {shape}"
            )
        # Written so that a NaN fails too.
        if not np.abs(self.joints_m).max() <= FARTHEST_M:
            raise ClipError(
                f"clip {self.clip_id}: joints that are not finite, or farther than {FARTHEST_M:.0f} m; is the file in "
                "metres, and whole?"
            )
        if not 0 < self.frame_rate_hz < np.inf:
            raise ClipError(f"clip {self.clip_id}: the frame rate must be positive, got {self.frame_rate_hz}")


class ClipReader(Protocol):
    """A folder of clips in one layout. Readers are frozen dataclasses of a few fields, so that workers can have one."""

    def names(self, split: str) -> list[str]:
        """What `read` takes, for a split such as `train`, always in the same order.

        Raises:
            ClipError: The folder is not in this layout, or has no such split.
        """
        ...

    def read(self, name: str) -> list[Clip]:
        """The clips of one name: several where captions speak of parts.

        Raises:
            ClipError: A file is missing, or does not hold what the layout says.
        """
        ...


def split_captions(clip: Clip) -> list[Clip]:
    """One clip for the captions of the whole, and one for each caption of a part, as HumanML3D's own loader does.

    A plan stays with the whole.
    """
    whole = tuple(caption for caption in clip.captions if caption.start_s == caption.end_s == 0)
    clips = [replace(clip, captions=whole)] if whole else []
    for caption in clip.captions:
        if caption in whole:
            continue
        first, last = (round(seconds * clip.frame_rate_hz) for seconds in (caption.start_s, caption.end_s))
        joints_m = clip.joints_m[first:last]
        if len(joints_m) > 1:
            part = f"{clip.clip_id}@{first}-{last}"
            alone = replace(caption, start_s=0.0, end_s=0.0)
            clips.append(replace(clip, clip_id=part, joints_m=joints_m, captions=(alone,), plan=None))
    return clips


def part_of(clip_id: str) -> tuple[str, int] | None:
    """The clip that a part of `split_captions` was cut from, and its first frame; None for what is no such part."""
    match = _PART.fullmatch(clip_id)
    return None if match is None else (match[1], int(match[2]))


def mirror_clip(clip: Clip) -> Clip:
    """The mirrored copy of a clip: `M` before its id, left and right exchanged in motion, captions and plan."""
    return replace(
        clip,
        clip_id=f"M{clip.clip_id}",
        joints_m=mirror_joints(clip.joints_m),
        captions=tuple(_mirror_caption(caption) for caption in clip.captions),
        plan=None if clip.plan is None else parse_plan(mirror_text(format_plan(clip.plan))),
        mirrored=not clip.mirrored,
    )


def _mirror_caption(caption: Caption) -> Caption:
    """Parts of speech are lost where words change."""
    text = mirror_text(caption.text)
    return caption if text == caption.text else replace(caption, text=text, tagged="")


def mirror_text(text: str) -> str:
    """Exchange left and right, clockwise and counterclockwise, alone or as part of a word such as leftward."""

    def other(match: re.Match[str]) -> str:
        word = match.group()
        swapped = _SWAPS.get(word.lower(), "clockwise")
        return swapped.capitalize() if word[0].isupper() else swapped

    return _SIDES.sub(other, text)
