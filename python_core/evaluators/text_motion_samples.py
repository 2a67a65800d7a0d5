"""Pairs of captions and motions that evaluators learn from, drawn so that no pair of a batch is another's truth.

Clips with the same captions are one group, and groups are drawn, not clips: forty squats are one thing that is said.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from python_core.clips.clip import mirror_text
from python_core.clips.prepared import COMPOSED, PreparedClip, PreparedClips
from python_core.contract.plan import parse_plan
from python_core.evaluators.evaluator import ROWS_PER_MOVEMENT

_Item = TypeVar("_Item")

SHARES = {"recorded": 0.5, "composed": 0.3, "beats": 0.2}
"""How often each kind of sample is drawn, where there are any."""
SHORTEST_BEAT_ROWS = 12
ATTEMPTS = 4
"""Draws for each pair of a batch; a batch is smaller where so many found no other."""


@dataclass(frozen=True)
class Sample:
    """Rows of a clip with what is said about them."""

    clip: PreparedClip
    first_row: int
    """Within the clip."""
    num_rows: int
    captions: tuple[str, ...]


@dataclass(frozen=True)
class Pair:
    """A caption and exact features that it is about, [F, D]."""

    caption: str
    rows: NDArray[np.float32]


def whole_samples(clips: Sequence[PreparedClip]) -> list[Sample]:
    """Whole clips, those that can be embedded."""
    return [
        Sample(clip, 0, clip.num_rows, clip.captions)
        for clip in clips
        if clip.captions and clip.num_rows >= ROWS_PER_MOVEMENT
    ]


def beat_samples(clips: Sequence[PreparedClip], frame_rate_hz: float) -> list[Sample]:
    """The beats of clips whose plans are known and have more than one."""
    samples = []
    for clip in clips:
        if clip.plan is None:
            continue
        plan = parse_plan(clip.plan)
        ends = np.cumsum([beat.duration_s for beat in plan.beats])
        rows = [0, *np.round(ends / ends[-1] * clip.num_rows).astype(int).tolist()]
        for beat, first, last in zip(plan.beats, rows, rows[1:], strict=False):
            if len(plan.beats) > 1 and last - first >= SHORTEST_BEAT_ROWS:
                samples.append(Sample(clip, first, last - first, (beat.text, f"a person should {beat.text}")))
    return samples


class PairSource:
    """Draws pairs with torch's random numbers.

    Args:
        prepared: What the clips lie in.
        clips: Clips to learn from.
        beats: Whether beats of plans are pairs too.
        longest_rows: Longer samples give a piece of this length.
        twins: How often a pair is followed by its mirrored twin, where there is one.
    """

    def __init__(
        self,
        prepared: PreparedClips,
        clips: Sequence[PreparedClip],
        *,
        beats: bool = False,
        longest_rows: int = 196,
        twins: float = 0.0,
    ) -> None:
        self.prepared, self.longest_rows, self.twins = prepared, longest_rows, twins
        self._by_id = {clip.clip_id: clip for clip in clips}
        kinds = {
            "recorded": whole_samples([clip for clip in clips if clip.source != COMPOSED]),
            "composed": whole_samples([clip for clip in clips if clip.source == COMPOSED]),
            "beats": beat_samples(clips, prepared.frame_rate_hz) if beats else [],
        }
        self._kinds = [(name, _groups(samples)) for name, samples in kinds.items() if samples]
        if not self._kinds:
            raise ValueError(f"no clip of {ROWS_PER_MOVEMENT} rows or more among {len(clips)} clips")
        self._shares = torch.tensor([SHARES[name] for name, _ in self._kinds])

    def draw(self, num: int) -> list[Pair]:
        """Pairs, `num` at most, no caption of which is among the captions of another's sample."""
        pairs: list[Pair] = []
        said: set[str] = set()
        spoken: set[str] = set()
        for kind in torch.multinomial(self._shares, ATTEMPTS * num, replacement=True).tolist():
            sample = _pick(_pick(self._kinds[kind][1]))
            caption = _pick(sample.captions)
            for one, text in ((sample, caption), *self._twins(sample, caption)):
                captions = {_plain(known) for known in one.captions}
                if len(pairs) < num and _plain(text) not in said and not captions & spoken:
                    said |= captions
                    spoken.add(_plain(text))
                    pairs.append(Pair(text, self._cut(one)))
            if len(pairs) == num:
                break
        return pairs

    def draw_rows(self, num: int, num_rows: int) -> NDArray[np.float32]:
        """Windows of clips, each clip as often as it is long; shorter clips are left out. [num, num_rows, D]"""
        clips = [clip for clip in self._by_id.values() if clip.num_rows >= num_rows]
        if not clips:
            raise ValueError(f"no clip has {num_rows} rows; use shorter windows")
        weights = torch.tensor([float(clip.num_rows) for clip in clips])
        windows = []
        for place in torch.multinomial(weights, num, replacement=True).tolist():
            first = int(torch.randint(clips[place].num_rows - num_rows + 1, ()))
            windows.append(self.prepared.features(clips[place])[first : first + num_rows])
        return np.stack(windows)

    def _cut(self, sample: Sample) -> NDArray[np.float32]:
        """Rows of a sample, a multiple of 4; one time in three 4 fewer, as published, so that lengths vary."""
        num_rows = min(sample.num_rows // ROWS_PER_MOVEMENT * ROWS_PER_MOVEMENT, self.longest_rows)
        if num_rows > 2 * ROWS_PER_MOVEMENT and int(torch.randint(3, ())) == 0:
            num_rows -= ROWS_PER_MOVEMENT
        first = sample.first_row + int(torch.randint(sample.num_rows - num_rows + 1, ()))
        return np.array(self.prepared.features(sample.clip)[first : first + num_rows])

    def _twins(self, sample: Sample, caption: str) -> list[tuple[Sample, str]]:
        """The mirrored sample with the mirrored caption, if there is one and chance wants it."""
        if not self.twins or float(torch.rand(())) >= self.twins:
            return []
        clip_id, mirrored = sample.clip.clip_id, mirror_text(caption)
        twin = self._by_id.get(f"M{clip_id}") or self._by_id.get(clip_id.removeprefix("M"))
        if twin is None or twin.num_rows != sample.clip.num_rows or mirrored == caption:
            return []
        captions = tuple(mirror_text(text) for text in sample.captions)
        return [(Sample(twin, sample.first_row, sample.num_rows, captions), mirrored)]


def _groups(samples: Sequence[Sample]) -> list[list[Sample]]:
    groups: dict[tuple[str, ...], list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.captions, []).append(sample)
    return list(groups.values())


def _pick(items: Sequence[_Item]) -> _Item:
    return items[int(torch.randint(len(items), ()))]


def _plain(caption: str) -> str:
    return caption.lower().strip(" .")
