"""New clips from those there are: joined in time, or mixed by body part, with captions and exact plans.

Small corpora know few combinations. `Pool.draw` draws parts by what bodies do (travel, turn, stay, act), so that a walk
before an action comes up about as often as two actions. A composition follows from the ids of its clips and a seed
alone, so workers can share the work: `Pool.draw` says what is made, `Pool.make` makes it.

What moves worse than its parts is rejected: it slides, goes through the floor, or hurries at the seam.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from python_core.body_mix import find_floor_work, find_travel, mix_tracks, turned
from python_core.clips.clip import Caption, Clip
from python_core.clips.takes import take_half
from python_core.composed_captions import (
    Phrase,
    join_captions,
    mix_captions,
    mix_phrases,
    read_phrases,
)
from python_core.composed_motion import (
    BLEND_FRAMES,
    FRAME_RATE_HZ,
    Composed,
    CompositionError,
    Track,
    find_seam,
    join_tracks,
    solve_track,
)
from python_core.contract.plan import Beat, Plan
from python_core.contract.quality import QualityReport, measure_quality
from python_core.contract.quality_thresholds import Verdict
from python_core.features import canonical_joints
from python_core.reasoning.clauses import word_set
from python_core.reasoning.planner import Planner
from python_core.reasoning.teacher_prompts import MAX_PLAN_TOKENS

_Drawn = TypeVar("_Drawn", dict[str, list["Member"]], list["Member"])


MAX_FRAMES = 197
"""49 codes, the longest that HumanML3D's protocol and our language model know."""
LONGEST_PART = MAX_FRAMES - 40
"""A longer clip leaves the others in a join less than 2 s."""
NUM_CAPTIONS = 3
MIX_SHARE = 0.25
"""How many compositions are mixed by body part; the others are joined in time."""
PARTS_SHARES = {2: 0.6, 3: 0.28, 4: 0.09, 5: 0.03}
"""How many of the joined have so many parts."""
CANDIDATES = 20
"""So many clips are tried after a part until one fits."""
MAX_ATTEMPTS = 12
"""Draws for each composition that is wanted, before there are fewer."""

CUT_FRAMES = (40, 81)
"""A steady motion that lasts longer gives a piece of 2 to 4 s."""
FAR_SHARE = 0.9
"""The piece goes at least this share of the way that any piece of its length goes."""
_STEADY_VERBS = word_set("walk run jog march sneak strafe skip crawl stand idle wait dance move stroll pace wander")
_NOT_STEADY = word_set(
    "circle circles stop stops stopping steps step once twice times around turning turn lap"
) | word_set("one two three four five six then before after jumping into back")

TRAVEL_M, TURN = 1.0, np.radians(60)
STILL_M_S = 0.15
"""A body whose joints are slower on average stays still."""

SKATE_FACTOR, SKATE_MORE_M_S = 1.25, 0.02
PENETRATION_MORE_M = 0.02
JERK_FACTOR, JERK_MORE_M_S3 = 1.5, 10.0
SEAM_SPEED_FACTOR, SEAM_SPEED_MORE_M_S = 1.5, 0.3
"""No joint is faster at a seam than this many times its fastest in any part, and what a body at rest needs to go from
one pose to the next.
"""

_LEG_VERBS = word_set("walk run jog march sneak strafe stand step stroll pace idle wait wander stride sidestep turn")
_BUSY_HANDS = re.compile(r"\b(?:guard|weapons?|fight|fighting|gun|pistol|sword|axe|shield|\w+-handed|object|ball)\b")
"""Where the legs' own phrase gives the hands something to do."""
_ARM_VERBS = word_set("wave clap salute drink eat talk gesture cheer shrug beckon greet applaud nod text point")
_ARM_VERBS_WITH_PARTS = _ARM_VERBS | word_set(
    "raise lift lower stretch swing shoot aim hold rub scratch touch shake cross fold knock strike hit slash chop pump "
    "thrust extend flap wipe throw punch do perform make use move put block jab cast conjure rotate circle give"
)
"""Verbs that the arms do only if the caption names an arm or a hand."""
_ARM_PARTS = {"left arm": "left", "left hand": "left", "right arm": "right", "right hand": "right"}
LIVELY_ARMS = 1.5
"""Arms of an upper part are this many times faster than its legs."""
_ARMS, _LEGS = (18, 19, 20, 21), (4, 5, 7, 8)


@dataclass(frozen=True, eq=False)
class Member:
    """A clip that compositions can be made of."""

    clip: Clip
    track: Track
    phrases: tuple[Phrase, ...]

    @cached_property
    def quality(self) -> QualityReport:
        return measure_quality(self.track.motion())

    @cached_property
    def fastest_m_s(self) -> NDArray[np.float64]:
        """Highest speed of each joint, [J]."""
        return _speeds(self.clip.joints_m).max(axis=0)

    @cached_property
    def kind(self) -> str:
        """What the body does: travel, turn, stay or act."""
        ground_m = self.track.root_m[:, [0, 2]]
        if np.abs(turned(self.track)).max() > TURN:
            return "turn"
        if float((ground_m - ground_m[0]).norm(dim=-1).max()) > TRAVEL_M:
            return "travel"
        return "stay" if _speeds(self.clip.joints_m).mean() < STILL_M_S else "act"

    @cached_property
    def steady(self) -> bool:
        """Whether every caption says something that goes on, so that a piece of the clip fits it as well."""
        return all(
            phrase.num_beats == 1 and phrase.verb in _STEADY_VERBS and not _NOT_STEADY & set(phrase.text.split())
            for phrase in self.phrases
        )

    @cached_property
    def lower_phrases(self) -> tuple[Phrase, ...]:
        """What the legs do, for another upper body to go over them; none where the body is not upright."""
        if find_floor_work(self.track):
            return ()
        return tuple(
            phrase
            for phrase in self.phrases
            if phrase.plain
            and phrase.verb in _LEG_VERBS
            and not phrase.body_parts
            and not _BUSY_HANDS.search(phrase.text)
        )

    @cached_property
    def upper_phrases(self) -> tuple[Phrase, ...]:
        """What the arms do alone, to go over other legs; none where the legs do as much."""
        speeds_m_s = _speeds(self.clip.joints_m - self.clip.joints_m[:, :1]).mean(axis=0)
        if speeds_m_s[[*_ARMS]].mean() < LIVELY_ARMS * speeds_m_s[[*_LEGS]].mean():
            return ()
        if find_floor_work(self.track) or find_travel(self.track):
            return ()
        return tuple(phrase for phrase in self.phrases if phrase.plain and _is_for_arms(phrase))


@dataclass(frozen=True)
class Recipe:
    """All that a composition follows from."""

    clip_ids: tuple[str, ...]
    seed: tuple[int, ...]
    mixed_part: str = ""
    """The part of the body that comes from the second clip; empty where clips are joined in time."""

    @property
    def clip_id(self) -> str:
        """Begins with J or X, never with the M of a mirrored copy."""
        return f"{'X' if self.mixed_part else 'J'}{'+'.join(self.clip_ids)}@{'.'.join(map(str, self.seed))}"


class Pool:
    """Solved clips and their phrases. Draws and compositions never change it.

    Args:
        clips: Canonical clips at 20 Hz, each id once.

    Raises:
        ValueError: Fewer than 2 clips have a caption that can be joined, or a clip is not canonical.
    """

    def __init__(self, clips: Sequence[Clip], planner: Planner) -> None:
        phrases, self.skipped = read_phrases(clips, planner)
        """Captions that cannot be joined, counted by reason."""
        self.members = {
            clip.clip_id: Member(clip, solve_track(clip), phrases[clip.clip_id])
            for clip in clips
            if phrases[clip.clip_id]
        }
        if len(self.members) < 2:
            raise ValueError(f"composition needs 2 clips with captions that can be joined, got {len(self.members)}")
        members = list(self.members.values())
        halves = [[member for member in members if _half(member.clip) == half] for half in (0, 1)]
        # Too few clips to part.
        parted = all(sum(map(_joinable, half)) > 1 for half in halves)
        self._choices = [_Choice.of(part) for part in (halves if parted else [members])]

    def draw(self, seed: int, number: int) -> Recipe:
        """What the composition of this number is made of: clips of one half of the takes, so that one of the evaluators
        can learn from it.

        Raises:
            CompositionError: No clip fits after one of the parts.
        """
        random = np.random.default_rng([seed, number])
        choice = self._choices[number % len(self._choices)]
        if choice.lowers and choice.uppers and random.random() < MIX_SHARE:
            lower, upper = _pick(choice.lowers, random), _pick(choice.uppers, random)
            part = _mixed_part(upper.upper_phrases[0])
            return Recipe((lower.clip.clip_id, upper.clip.clip_id), (seed, number), part)
        num_parts = int(random.choice(list(PARTS_SHARES), p=list(PARTS_SHARES.values())))
        members = [_pick(choice.joined, random)]
        while len(members) < num_parts:
            members.append(_pick_next(members, choice, (seed, number), random))
        return Recipe(tuple(member.clip.clip_id for member in members), (seed, number))

    def make(self, recipe: Recipe) -> Clip:
        """Follow a recipe.

        Raises:
            CompositionError: The parts do not go together, or the result moves worse than they do.
        """
        members = [self.members[clip_id] for clip_id in recipe.clip_ids]
        random = np.random.default_rng(recipe.seed)
        if recipe.mixed_part:
            phrases, captions = _describe_mix(members[0], members[1], recipe.mixed_part, random)
            lower = _cut(members[0], recipe.seed, 0, len(members[1].track))
            composed = mix_tracks(lower, members[1].track, recipe.mixed_part, loops=members[0].steady)
        else:
            phrases, captions = _describe_join(members, random)
            composed = join_tracks([_cut(member, recipe.seed, place) for place, member in enumerate(members)])
        check_quality(composed, members)
        joints_m = canonical_joints(composed.motion.joint_positions_m())
        beats = zip(phrases, composed.durations_s, strict=True)
        clips = [member.clip for member in members]
        return Clip(
            clip_id=recipe.clip_id,
            joints_m=joints_m,
            captions=tuple(Caption(text) for text in captions),
            source="+".join(dict.fromkeys(part for clip in clips for part in clip.source.split("+"))),
            licence="; ".join(dict.fromkeys(part for clip in clips for part in clip.licence.split("; "))),
            frame_rate_hz=FRAME_RATE_HZ,
            take="+".join(dict.fromkeys(clip.take or clip.clip_id for clip in clips)),
            plan=Plan(tuple(Beat(phrase.text, duration_s, phrase.body_parts) for phrase, duration_s in beats)),
        )


def check_quality(composed: Composed, members: Sequence[Member]) -> None:
    """Hold a composition against its parts.

    Raises:
        CompositionError: It is too long, slides, goes through the floor or shakes more than its parts, or a joint
            hurries at a seam.
    """
    motion = composed.motion
    if motion.num_frames > MAX_FRAMES:
        raise CompositionError("too long", f"{motion.num_frames} frames, at most {MAX_FRAMES}")
    quality, parts = measure_quality(motion), [member.quality for member in members]
    if quality.verdict is Verdict.POOR:
        raise CompositionError(
            f"poor {quality.weakest_measure}", f"{quality.weakest_measure} scores {quality.score:.2f}"
        )
    limits = {
        "slides": (
            quality.foot_skate_m_s,
            SKATE_FACTOR * max(part.foot_skate_m_s for part in parts) + SKATE_MORE_M_S,
        ),
        "goes through the floor": (
            quality.penetration_m,
            max(part.penetration_m for part in parts) + PENETRATION_MORE_M,
        ),
        "shakes": (quality.jerk_m_s3, JERK_FACTOR * max(part.jerk_m_s3 for part in parts) + JERK_MORE_M_S3),
    }
    for reason, (value, limit) in limits.items():
        if value > limit:
            raise CompositionError(reason, f"{value:.3g}, at most {limit:.3g}")
    speeds_m_s = _speeds(motion.joint_positions_m())
    fastest_m_s = np.max([member.fastest_m_s for member in members], axis=0)
    for first, end in composed.seams:
        excess_m_s = speeds_m_s[max(0, first - 1) : end].max(axis=0) - SEAM_SPEED_FACTOR * fastest_m_s
        if excess_m_s.max() > SEAM_SPEED_MORE_M_S:
            raise CompositionError("hurries at the seam", f"a joint is {excess_m_s.max():.2f} m/s too fast")


def _speeds(joints_m: NDArray[np.float32]) -> NDArray[np.float64]:
    """Speeds of joints in metres a second, [F - 1, J]."""
    return np.linalg.norm(np.diff(joints_m.astype(np.float64), axis=0), axis=-1) * FRAME_RATE_HZ


_Sorted = dict[str, dict[str, list[Member]]]
"""Members by kind, then by source."""


@dataclass(frozen=True)
class _Choice:
    """Clips that go together, for each place in a composition."""

    joined: _Sorted
    lowers: _Sorted
    uppers: _Sorted

    @classmethod
    def of(cls, members: Sequence[Member]) -> "_Choice":
        return cls(
            joined=_sort([member for member in members if _joinable(member)]),
            lowers=_sort([member for member in members if member.lower_phrases]),
            uppers=_sort([member for member in members if member.upper_phrases]),
        )


def _half(clip: Clip) -> int:
    """That of its take, the first of several; a part of a clip without a known take goes with the clip."""
    return take_half((clip.take or clip.clip_id.split("@")[0]).split("+")[0])


def _joinable(member: Member) -> bool:
    return member.steady or len(member.track) <= LONGEST_PART


def _pick_next(members: list[Member], choice: _Choice, seed: tuple[int, int], random: np.random.Generator) -> Member:
    said = {phrase.text for member in members for phrase in member.phrases}
    place = len(members)
    tracks = [_cut(member, seed, k) for k, member in enumerate(members)]
    free_frames = MAX_FRAMES - sum(map(len, tracks)) + place * BLEND_FRAMES
    for _ in range(CANDIDATES):
        candidate = _pick(choice.joined, random)
        if said & {phrase.text for phrase in candidate.phrases}:
            continue
        try:
            track = _cut(candidate, seed, place)
            find_seam(tracks[-1], track)
        except CompositionError:
            continue
        if len(track) <= free_frames:
            return candidate
    raise CompositionError("nothing fits", f"none of {CANDIDATES} clips after {members[-1].clip.clip_id}")


def _sort(members: Sequence[Member]) -> _Sorted:
    by_kind: _Sorted = {}
    for member in members:
        by_kind.setdefault(member.kind, {}).setdefault(member.clip.source, []).append(member)
    return by_kind


def _pick(by_kind: _Sorted, random: np.random.Generator) -> Member:
    """A member of a kind and of a source, both drawn by the root of their size: large ones do not crowd out the others,
    and the few members of small ones do not come up in every second composition.
    """
    by_source = _draw_by_size(list(by_kind.values()), random)
    members = _draw_by_size(list(by_source.values()), random)
    return members[random.integers(len(members))]


def _draw_by_size(choices: Sequence[_Drawn], random: np.random.Generator) -> _Drawn:
    sizes = [sum(map(len, choice.values())) if isinstance(choice, dict) else len(choice) for choice in choices]
    weights = np.sqrt(sizes)
    return choices[random.choice(len(choices), p=weights / weights.sum())]


def _cut(member: Member, seed: tuple[int, ...], place: int, num_frames: int | None = None) -> Track:
    """A piece of a long steady motion, where it goes about as far as it does anywhere: recordings begin and end with
    steps that lead in and out. Any other motion as it is.
    """
    random = np.random.default_rng([*seed, place])
    num_frames = num_frames or int(random.integers(*CUT_FRAMES))
    num_starts = len(member.track) - num_frames + 1
    if not member.steady or num_starts < 2:
        return member.track
    steps_m = member.track.root_m[:, [0, 2]].diff(dim=0).norm(dim=-1).numpy()
    ways_m = np.convolve(steps_m, np.ones(num_frames - 1), mode="valid")
    # Rounded, so that a mirrored motion has the same.
    starts = np.flatnonzero(ways_m.round(4) >= FAR_SHARE * ways_m.max().round(4))
    first = int(starts[random.integers(len(starts))])
    return member.track.cut(first, first + num_frames)


def _is_for_arms(phrase: Phrase) -> bool:
    named = set(phrase.body_parts)
    if not named <= {*_ARM_PARTS, "both arms", "head"}:
        return False
    return phrase.verb in (_ARM_VERBS_WITH_PARTS if named - {"head"} else _ARM_VERBS)


def _mixed_part(phrase: Phrase) -> str:
    """One arm where the phrase names only that, so that the other goes on as it did; else the upper body."""
    sides = {_ARM_PARTS.get(part, "both") for part in phrase.body_parts}
    return f"{sides.pop()} arm" if len(sides) == 1 and sides <= {"left", "right"} else "upper body"


def _describe_join(
    members: Sequence[Member], random: np.random.Generator
) -> tuple[tuple[Phrase, ...], tuple[str, ...]]:
    phrases = []
    for member in members:
        fewest = [phrase for phrase in member.phrases if phrase.num_beats == member.phrases[0].num_beats]
        phrases.append(fewest[random.integers(len(fewest))])
    num_tokens = sum(round(1.3 * len(phrase.text.split())) + 9 for phrase in phrases)
    if num_tokens > MAX_PLAN_TOKENS:
        raise CompositionError("plan too long", f"about {num_tokens} tokens, at most {MAX_PLAN_TOKENS}")
    return tuple(phrases), join_captions(phrases, NUM_CAPTIONS, random)


def _describe_mix(
    lower: Member, upper: Member, part: str, random: np.random.Generator
) -> tuple[tuple[Phrase, ...], tuple[str, ...]]:
    uppers = [phrase for phrase in upper.upper_phrases if _mixed_part(phrase) == part]
    pairs = list(product(lower.lower_phrases, uppers))
    for place in random.permutation(len(pairs)):
        legs, arms = pairs[place]
        if (both := mix_phrases(legs, arms)) is not None:
            return (both,), mix_captions(legs, arms, NUM_CAPTIONS, random)
    raise CompositionError("beat too long", f"{lower.clip.clip_id} and {upper.clip.clip_id} have no short phrases")
