"""Pairs of captions and motions that evaluators learn from, drawn so that no pair of a batch is another's truth.

Clips with the same captions are one group, and groups are drawn, not clips: forty squats are one thing that is said.

A mirrored copy, and a composition with its beats in reverse order, are twins: each is the truth of what is wrong of
the other. A caption with something exchanged is a negative only where there is such a twin, since else it would never
be true, and the text alone would tell that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from python_core.clips.clip import mirror_text
from python_core.clips.prepared import COMPOSED, PreparedClip, PreparedClips
from python_core.contract.plan import parse_plan
from python_core.evaluators.beat_captions import beat_caption
from python_core.evaluators.changed_rows import beat_edges, change_speed, reverse_beats
from python_core.evaluators.evaluator import ROWS_PER_MOVEMENT
from python_core.evaluators.meanings import Meaning, Meanings, plain_caption
from python_core.evaluators.swapped_captions import has_order, reverse_order, swap_sides
from python_core.processes import own_share

_Item = TypeVar("_Item")

SHARES = {"recorded": 0.5, "composed": 0.3, "beats": 0.2}
"""How often each kind of sample is drawn, where there are any."""
SHORTEST_BEAT_ROWS = 12
LONGEST_ROWS = 196
"""Longer samples give a piece of this length."""
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
    beat: int | None = None
    """Which beat of the clip's plan it is; None for the whole clip."""
    backwards: bool = False
    """Whether the beats of the whole come in reverse order."""


@dataclass(frozen=True)
class Pair:
    """A caption and exact features that it is about, [F, D]."""

    caption: str
    rows: NDArray[np.float32]
    exchanged: tuple[str, ...] = ()
    """The caption with sides or order exchanged, which its twin's rows are about."""


def whole_samples(clips: Sequence[PreparedClip]) -> list[Sample]:
    """Whole clips, those that can be embedded."""
    return [
        Sample(clip, 0, clip.num_rows, clip.captions)
        for clip in clips
        if clip.captions and clip.num_rows >= ROWS_PER_MOVEMENT
    ]


def beat_samples(clips: Sequence[PreparedClip]) -> list[Sample]:
    """The beats of clips whose plans are known and have more than one."""
    samples = []
    for clip in clips:
        if clip.plan is None:
            continue
        plan = parse_plan(clip.plan)
        edges = beat_edges(plan, clip.num_rows)
        for number, (beat, first, last) in enumerate(zip(plan.beats, edges, edges[1:], strict=False)):
            if len(plan.beats) > 1 and last - first >= SHORTEST_BEAT_ROWS:
                samples.append(Sample(clip, first, last - first, (beat_caption(beat.text), beat.text), number))
    return samples


class PairSource:
    """Draws pairs with torch's random numbers.

    Args:
        prepared: What the clips lie in.
        clips: Clips to learn from.
        twins: How often a pair is followed by a twin of each kind, where there is one. Where it is not 0, a composition
            that can be reversed is drawn as often in one order as in the other.
        speed: Samples are played faster or slower by up to this share.
        noise: Deviation of what is added to features, in the features' own deviations.
    """

    def __init__(
        self,
        prepared: PreparedClips,
        clips: Sequence[PreparedClip],
        *,
        twins: float = 0.0,
        speed: float = 0.0,
        noise: float = 0.0,
    ) -> None:
        self.prepared = prepared
        self.twins, self.speed, self.noise = twins, speed, noise
        self._by_id = {clip.clip_id: clip for clip in clips}
        self._meanings = Meanings(prepared.clips)
        kinds = {
            "recorded": whole_samples([clip for clip in clips if clip.source != COMPOSED]),
            "composed": whole_samples([clip for clip in clips if clip.source == COMPOSED]),
            "beats": beat_samples(clips),
        }
        self._kinds = [(name, _groups(samples)) for name, samples in kinds.items() if samples]
        if not self._kinds:
            raise ValueError(f"no clip of {ROWS_PER_MOVEMENT} rows or more among {len(clips)} clips")
        self._shares = torch.tensor([SHARES[name] for name, _ in self._kinds])

    def draw(self, num: int) -> list[Pair]:
        """Pairs, `num` at most, no two of which mean the same or have a caption among the other's captions."""
        pairs: list[Pair] = []
        said: set[str] = set()
        spoken: set[str] = set()
        meant: set[Meaning] = set()
        for kind in torch.multinomial(self._shares, ATTEMPTS * num, replacement=True).tolist():
            sample = _pick(_pick(self._kinds[kind][1]))
            caption = _pick(sample.captions)
            if (turned := self._reversed(sample, caption)) and _chance(0.5):
                sample, caption = turned
            found = [(sample, caption)]
            for twin in (self._mirrored(sample, caption), self._reversed(sample, caption)):
                if twin is not None and _chance(self.twins):
                    found.append(twin)
            for one, text in found:
                captions = {plain_caption(known) for known in one.captions}
                meanings = self._meaning(one)
                same = plain_caption(text) in said or captions & spoken or meanings & meant
                if len(pairs) < num and not same:
                    said |= captions
                    meant |= meanings
                    spoken.add(plain_caption(text))
                    pairs.append(Pair(text, self._cut(one), self._exchanged(one, text)))
            if len(pairs) == num:
                break
        return pairs

    def draw_rows(self, num: int, num_rows: int) -> NDArray[np.float32]:
        """Windows of clips, each clip as often as it is long; shorter clips are left out. Gives this process's share of
        `num` of them, [B, num_rows, D].
        """
        clips = [clip for clip in self._by_id.values() if clip.num_rows >= num_rows]
        if not clips:
            raise ValueError(f"no clip has {num_rows} rows; use shorter windows")
        weights = torch.tensor([float(clip.num_rows) for clip in clips])
        windows = []
        for place in torch.multinomial(weights, num, replacement=True).tolist():
            first = int(torch.randint(clips[place].num_rows - num_rows + 1, ()))
            windows.append((clips[place], first))
        return np.stack([self.prepared.features(clip)[first : first + num_rows] for clip, first in own_share(windows)])

    def _cut(self, sample: Sample) -> NDArray[np.float32]:
        """Rows of a sample, a multiple of 4; one time in three 4 fewer, as published, so that lengths vary."""
        rows = self.prepared.features(sample.clip)[sample.first_row : sample.first_row + sample.num_rows]
        if sample.backwards:
            assert sample.clip.plan is not None, "only what has beats is reversed"
            rows = reverse_beats(rows, beat_edges(parse_plan(sample.clip.plan), len(rows)))
        if self.speed:
            first = int(torch.randint(max(len(rows) - LONGEST_ROWS, 0) + 1, ()))
            rows = rows[first : first + LONGEST_ROWS]
            longer = 1 + self.speed * (2 * float(torch.rand(())) - 1)
            rows = change_speed(rows, min(max(round(len(rows) * longer), ROWS_PER_MOVEMENT), LONGEST_ROWS))
        num_rows = min(len(rows) // ROWS_PER_MOVEMENT * ROWS_PER_MOVEMENT, LONGEST_ROWS)
        if num_rows > 2 * ROWS_PER_MOVEMENT and int(torch.randint(3, ())) == 0:
            num_rows -= ROWS_PER_MOVEMENT
        first = int(torch.randint(len(rows) - num_rows + 1, ()))
        cut = np.array(rows[first : first + num_rows])
        if self.noise:
            cut += self.noise * self.prepared.normalizer.std * torch.randn(cut.shape).numpy()
        return cut

    def _meaning(self, sample: Sample) -> frozenset[Meaning]:
        if sample.beat is not None:
            return self._meanings.of_beat(sample.clip, sample.beat)
        return self._meanings.of_clip(sample.clip, sample.backwards)

    def _exchanged(self, sample: Sample, caption: str) -> tuple[str, ...]:
        """The caption with sides exchanged and with the order exchanged, each where it is a twin's."""
        found = []
        if self._mirrored(sample, caption) is not None and (sides := swap_sides(caption)) is not None:
            found.append(sides)
        if (turned := self._reversed(sample, caption)) is not None:
            found.append(turned[1])
        return tuple(found)

    def _mirrored(self, sample: Sample, caption: str) -> tuple[Sample, str] | None:
        """The mirrored sample with the mirrored caption, if there is one and it says something else."""
        clip_id, mirrored = sample.clip.clip_id, mirror_text(caption)
        twin = self._by_id.get(f"M{clip_id}")
        if twin is None and clip_id.startswith("M"):
            twin = self._by_id.get(clip_id[1:])
        if twin is None or twin.num_rows != sample.clip.num_rows or mirrored == caption:
            return None
        # An id that begins with M may be another clip's.
        if twin.captions != tuple(mirror_text(text) for text in sample.clip.captions):
            return None
        captions = tuple(mirror_text(text) for text in sample.captions)
        return replace(sample, clip=twin, captions=captions), mirrored

    def _reversed(self, sample: Sample, caption: str) -> tuple[Sample, str] | None:
        """The sample and its caption with the beats in reverse order, if the caption says exactly that order."""
        clip = sample.clip
        if not self.twins or sample.beat is not None or clip.source != COMPOSED or clip.plan is None:
            return None
        beats = parse_plan(clip.plan).beats
        if len(beats) < 2 or any(has_order(beat.text) for beat in beats):
            return None
        turned = reverse_order(caption, len(beats))
        if turned is None:
            return None
        captions = (reverse_order(text, len(beats)) for text in sample.captions)
        known = tuple(text for text in captions if text is not None)
        return replace(sample, captions=known, backwards=not sample.backwards), turned


def _groups(samples: Sequence[Sample]) -> list[list[Sample]]:
    groups: dict[tuple[str, ...], list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.captions, []).append(sample)
    return list(groups.values())


def _chance(share: float) -> bool:
    """Drawn true so often; a share of 0 draws nothing."""
    return share > 0 and float(torch.rand(())) < share


def _pick(items: Sequence[_Item]) -> _Item:
    return items[int(torch.randint(len(items), ()))]
