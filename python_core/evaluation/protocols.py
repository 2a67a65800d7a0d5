"""Which clips an evaluation takes, and which caption and piece of each in every repeat.

    val_composed    compositions of val clips; no pool holds two texts that say the same
    humanml3d       the published protocol: 40 to 199 rows at 20 Hz
    kit             the published protocol: 24 to 199 rows at 12.5 Hz, whatever rate the clips have here
    babel           segments of 30 to 200 frames at 30 Hz, each of one action, spoken one after the other
                    (`long_sequences.py`)

The published ones shuffle, cut into pools of 32 and drop the last. Language models choose how long a motion is;
diffusion models are usually told, so their numbers are for an easier task.

Source: Guo et al. 2022 and its code; for babel, Barquero et al. 2024, Seamless Human Motion Composition with Blended
Positional Encodings, and its code.
"""

import math
import re
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from python_core.clips.clip import part_of
from python_core.clips.prepared import COMPOSED, PreparedClip, PreparedClips
from python_core.contract.plan import parse_plan
from python_core.vqvae import FRAMES_PER_CODE

ProtocolName = Literal["val_composed", "humanml3d", "kit", "babel"]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Rules of one."""

    split: str
    """Where clips come from unless the caller says so."""
    shortest_s: float
    """Shorter clips are left out."""
    end_s: float
    """So are clips of this length or more."""
    longest_s: float
    """A piece is cut to this."""
    apart: bool
    """Whether texts that say the same are kept out of one pool."""
    single: bool = False
    """Whether clips of several actions are left out: a plan says so, or captions of their parts do, which are clips of
    their own.
    """

    def takes(self, clip: PreparedClip, frame_rate_hz: float) -> bool:
        """Whether a clip is evaluated, whatever others there are."""
        # Half a row is added, since a length in seconds rarely is a whole number of them.
        length_s = (clip.num_rows + 0.5) / frame_rate_hz
        several = self.single and clip.plan is not None and len(parse_plan(clip.plan).beats) > 1
        return bool(clip.captions) and not several and self.shortest_s <= length_s < self.end_s


PROTOCOLS: dict[ProtocolName, Protocol] = {
    "val_composed": Protocol(split="val_composed", shortest_s=0.4, end_s=math.inf, longest_s=9.8, apart=True),
    "humanml3d": Protocol(split="test", shortest_s=40 / 20, end_s=200 / 20, longest_s=196 / 20, apart=False),
    "kit": Protocol(split="test", shortest_s=24 / 12.5, end_s=200 / 12.5, longest_s=196 / 12.5, apart=False),
    "babel": Protocol(split="val", shortest_s=30 / 30, end_s=201 / 30, longest_s=200 / 30, apart=True, single=True),
}


@dataclass(frozen=True)
class Sample:
    """A clip as one repeat sees it."""

    clip: PreparedClip
    caption: str
    first: int
    """First row of the piece."""
    num_rows: int

    def features(self, prepared: PreparedClips) -> NDArray[np.float32]:
        """Rows of the piece, [F, D]."""
        return np.array(prepared.features(self.clip)[self.first : self.first + self.num_rows])


def choose_clips(prepared: PreparedClips, protocol: Protocol, split: str = "") -> list[PreparedClip]:
    """Clips of a protocol.

    Raises:
        ValueError: There is no such split, or no clip of it fits.
    """
    split = split or protocol.split
    clips = prepared.split(split)
    in_parts = {part[0] for clip in clips if protocol.single and (part := part_of(clip.clip_id))}
    found = [clip for clip in clips if protocol.takes(clip, prepared.frame_rate_hz) and clip.clip_id not in in_parts]
    if not found:
        raise ValueError(
            f"split {split!r}: no clip has captions and lasts {protocol.shortest_s:g} s or more and less than "
            f"{protocol.end_s:g} s; choose another split or protocol"
        )
    return found


def draw_samples(
    clips: Sequence[PreparedClip], protocol: Protocol, frame_rate_hz: float, random: np.random.Generator
) -> list[Sample]:
    """A caption of each clip, and a piece of whole codes: in 2 of 3 draws the longest, else one code less; of what the
    protocol allows, which at some rates is no whole code, where that is shorter.
    """
    samples = []
    for clip in clips:
        caption = clip.captions[random.integers(len(clip.captions))]
        num_codes = clip.num_rows // FRAMES_PER_CODE
        if random.random() < 1 / 3 and num_codes > 1:
            num_codes -= 1
        num_rows = min(num_codes * FRAMES_PER_CODE, math.floor(protocol.longest_s * frame_rate_hz + 1e-6))
        first = int(random.integers(clip.num_rows - num_rows + 1))
        samples.append(Sample(clip, caption, first, num_rows))
    return samples


def group_texts(samples: Sequence[Sample], meanings: Mapping[str, str]) -> NDArray[np.intp]:
    """Numbers of samples, [N]; those of one number say the same: their captions have the same words, or their clips'
    plans the same beats, or they are composed of the same clips, or of clips that say the same, or they are so through
    others.

    Args:
        samples: What is grouped.
        meanings: What compositions say, by their ids (`ValComposed.meanings`); empty where that is not known.
    """
    said_by = []
    for sample in samples:
        said: set[Hashable] = {("caption", *words(sample.caption))}
        if sample.clip.plan is not None:
            said.add(("plan", *(beat.text for beat in parse_plan(sample.clip.plan).beats)))
        if sample.clip.source == COMPOSED:
            # The id of a composition is its choice of clips and a seed.
            said.add(("clips", sample.clip.clip_id.rpartition("@")[0]))
        if sample.clip.clip_id in meanings:
            said.add(("meaning", meanings[sample.clip.clip_id]))
        said_by.append(said)
    return group_by_keys(said_by)


def group_by_keys(keys_of: Sequence[Collection[Hashable]]) -> NDArray[np.intp]:
    """Numbers of items, [N]; those of one number have a key in common, or have so through others."""
    rows, columns, keys = [], [], {}
    for row, found in enumerate(keys_of):
        for key in found:
            rows.append(row)
            columns.append(len(keys_of) + keys.setdefault(key, len(keys)))
    size = len(keys_of) + len(keys)
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(size, size))
    _, labels = connected_components(graph, directed=False)
    return np.unique(labels[: len(keys_of)], return_inverse=True)[1].astype(np.intp)


def words(text: str) -> list[str]:
    """Words of a text without case and punctuation."""
    return re.findall(r"[a-z0-9']+", text.lower())
