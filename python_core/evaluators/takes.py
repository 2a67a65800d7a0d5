"""Which clips an evaluator may learn from: no take is in both, and none that a held-out split knows is in either.

A take goes to one evaluator by its name alone, so that two runs on different prepared folders cannot share one.
Mirrored copies, parts and compositions go with their takes; a composition of takes of both is in neither.
"""

import hashlib
from typing import Literal

from python_core.clips.prepared import COMPOSED, PreparedClip, PreparedClips

EvaluatorKind = Literal["judge", "reward"]
_HALVES: dict[str, int] = {"judge": 0, "reward": 1}


def clip_takes(clip: PreparedClip, clip_ids: frozenset[str]) -> frozenset[str]:
    """Names of the recordings that a clip was made of; where none is known, the id of the clip that was recorded.

    Args:
        clip: Any clip.
        clip_ids: Ids of all prepared clips, since `M` begins a mirrored copy only where there is an original.
    """
    if clip.source == COMPOSED:
        return frozenset(_recorded(take, clip_ids) for take in clip.take.split("+"))
    return frozenset([clip.take or _recorded(clip.clip_id, clip_ids)])


def training_clips(prepared: PreparedClips, kind: EvaluatorKind) -> list[PreparedClip]:
    """Captioned clips of the train split all of whose takes are this evaluator's.

    Raises:
        ValueError: There are none.
    """
    found = own_clips(prepared, kind)
    if not found:
        raise ValueError(f"no captioned clips of the train split belong to the {kind}; it needs clips of more takes")
    return found


def own_clips(prepared: PreparedClips, kind: EvaluatorKind) -> list[PreparedClip]:
    """The same, which may be none."""
    clip_ids = frozenset(clip.clip_id for clip in prepared.clips)
    held_out = frozenset[str]().union(
        *(clip_takes(clip, clip_ids) for clip in prepared.clips if clip.split != "train"),
    )
    found = []
    for clip in prepared.split("train"):
        takes = clip_takes(clip, clip_ids)
        if clip.captions and not takes & held_out and all(_half(take) == _HALVES[kind] for take in takes):
            found.append(clip)
    return found


def _recorded(name: str, clip_ids: frozenset[str]) -> str:
    """The id without the M of a mirrored copy and the place of a part in its clip."""
    name = name.split("@")[0]
    rest = name.removeprefix("M")
    return rest if rest in clip_ids or rest.isdigit() else name


def _half(take: str) -> int:
    return hashlib.sha256(take.encode()).digest()[0] % 2
