"""Which clips an evaluator may learn from: no take is in both, and none that a held-out split knows is in either.

A take goes to one evaluator by its name alone, so that two runs on different prepared folders cannot share one. A
composition of takes of both is in neither.
"""

from typing import Literal

from python_core.clips.prepared import PreparedClip, PreparedClips
from python_core.clips.takes import clip_takes, take_half

EvaluatorKind = Literal["judge", "reward"]
_HALVES: dict[str, int] = {"judge": 0, "reward": 1}


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
        if clip.captions and not takes & held_out and all(take_half(take) == _HALVES[kind] for take in takes):
            found.append(clip)
    return found
