"""Which recordings a clip was made of, so that what is learned from and what is held out share none.

Mirrored copies, parts and compositions go with their takes. A take is on one side by its name alone, so that two runs
on different prepared folders draw the line in one place.
"""

import hashlib
from collections.abc import Collection, Iterable

from python_core.clips.prepared import COMPOSED, PreparedClip


def clip_takes(clip: PreparedClip, clip_ids: frozenset[str]) -> frozenset[str]:
    """Names of the recordings that a clip was made of; where none is known, the id of the clip that was recorded.

    `+` joins the names of several, of compositions as of clips that were joined before they came to us.

    Args:
        clip: Any clip.
        clip_ids: Ids of all prepared clips, since `M` begins a mirrored copy only where there is an original.
    """
    if not clip.take:
        return frozenset([_recorded(clip.clip_id, clip_ids)])
    takes = clip.take.split("+")
    # Parts whose recording is not known stand there by their ids.
    return frozenset(_recorded(take, clip_ids) for take in takes) if clip.source == COMPOSED else frozenset(takes)


def is_mirrored_copy(clip_id: str, clip_ids: Collection[str]) -> bool:
    """Whether a clip is the mirrored copy of another of these."""
    return clip_id.startswith("M") and clip_id[1:] in clip_ids


def take_half(take: str) -> int:
    """0 or 1: the half of all takes that one is in."""
    return hashlib.sha256(take.encode()).digest()[0] % 2


def hold_out(
    clips: Iterable[PreparedClip], clip_ids: frozenset[str], share: float
) -> tuple[list[PreparedClip], list[PreparedClip]]:
    """Clips to learn from, and clips of about a share of the takes, which are held out.

    A composition of takes of both sides is on neither.
    """
    kept, held_out = [], []
    for clip in clips:
        sides = {_place("held out", take) < share for take in clip_takes(clip, clip_ids)}
        if len(sides) == 1:
            (held_out if True in sides else kept).append(clip)
    return kept, held_out


def _recorded(name: str, clip_ids: frozenset[str]) -> str:
    """The id without the M of a mirrored copy and the place of a part in its clip."""
    name = name.split("@")[0]
    rest = name.removeprefix("M")
    return rest if rest in clip_ids or rest.isdigit() else name


def _place(purpose: str, take: str) -> float:
    """Where a take stands between 0 and 1, for one purpose."""
    return int.from_bytes(hashlib.sha256(f"{purpose} {take}".encode()).digest()[:8]) / 2**64
