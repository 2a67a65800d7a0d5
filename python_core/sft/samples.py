"""What supervised fine-tuning shows: prompts and replies as token ids, of which only the model's own words are scored.

At first replies are motion alone, so that the new tokens mean something before plans speak of them. Then half of the
replies begin with their plan, some captions have no motion and end after it, and some motions go on from the codes of
what was done before, as a character does that is steered.
"""

import logging
import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch.utils.data import Dataset

from python_core.clips.prepared import COMPOSED, PreparedClip
from python_core.contract.plan import Plan, format_plan, parse_plan
from python_core.contract.prompt import PromptTemplate
from python_core.contract.vocabulary import MAX_REASONING_TOKENS, PROMPT_TEMPLATE, TokenLayout
from python_core.language_model import text_ids
from python_core.motion_model import IGNORED
from python_core.reasoning.paraphrases import as_order
from python_core.stages.build_reasoning import WRITTEN, PlanRecord

logger = logging.getLogger(__name__)

LENGTH_BUCKETS = 8
"""Clips are sorted into this many by their length; a batch comes from one, so little of it is padding."""
SHORTEST_REST = 5
"""Codes that are left of a motion that is cut, at least: the tail of an action is not the action."""

WORDLESS = "move"
"""A caption that says nothing of what is to be done."""

_DURATION = re.compile(r"(?<=, )\d+\.\d(?= s)")

ClipCodes = Mapping[str, Sequence[Sequence[int]]]
"""Series of codes of each clip, by its id."""


@dataclass(frozen=True, kw_only=True)
class SampleShares:
    """How often each kind of sample comes.

    Raises:
        ValueError: A share that is not from 0 to 1, or a count below 1.
    """

    vocabulary_steps: int = 2_000
    """First steps, in which replies are motion without plans."""

    plan_share: float = 0.5
    """Share of the samples with motion that keep their plan."""

    text_share: float = 0.2
    """Share of the batches that are captions without motion, where there are some."""

    composed_share: float | None = None
    """Share of the batches with motion that are compositions, which cost more than recorded clips and are made of them;
    None takes all clips alike.
    """

    written_share: float = 0.5
    """Share of the captions without motion that were written with their plans, where there are some."""

    balance: float = 0.5
    """How much rarer a clip comes that does what others do as well: one of N clips of the same plan N to the power of
    minus this times as often as one that is alone with its own. 0 takes all clips alike.
    """

    wordless_share: float = 0.0
    """Share of the samples with motion that are asked for by a caption that says nothing, and have no plan, so that a
    model knows what its words change (Ho and Salimans 2022, Classifier-Free Diffusion Guidance).
    """

    history_share: float = 0.2
    """Share of the samples with motion that go on from history."""

    corruption: float = 0.0
    """Codes that the model reads are replaced by random ones; which share of them is drawn for each sample, from 0 to
    this. A model that can rely on what it wrote takes its plan for little (Zhang et al. 2023, T2M-GPT, 3.3).
    """

    depth_share: float = 1.0
    """Share of the codes whose later levels are scored; the depth head does nothing for the others, and it is most of
    the work. The first code of a motion is always scored whole (Schalkwyk et al. 2025, CSM).
    """

    plan_weight: float = 1.0
    """How much a token of a plan counts in the loss; one of a code counts 1."""

    opening_weight: float = 1.0
    """How many times as much as another a beat's first code counts: nothing but words tells which motion begins."""

    later_weight: float = 1.0
    """How much a token of a code's later levels counts, each; the first says what is done, and the others are near to
    noise.
    """

    max_history: int = 16
    """Codes of history, at most."""

    max_codes: int = 49
    """Clips of more codes are left out."""

    def __post_init__(self) -> None:
        for name in (
            "plan_share",
            "text_share",
            "composed_share",
            "written_share",
            "balance",
            "wordless_share",
            "history_share",
            "corruption",
        ):
            if not 0 <= (getattr(self, name) or 0) <= 1:
                raise ValueError(f"{name} goes from 0 to 1, got {getattr(self, name)}")
        if not 0 < self.depth_share <= 1:
            raise ValueError(f"depth_share goes from above 0 to 1, got {self.depth_share}")
        for name in ("plan_weight", "opening_weight", "later_weight"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a number above 0, got {getattr(self, name)}")
        for name in ("max_history", "max_codes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class Sample:
    """A prompt with its reply."""

    input_ids: list[int]
    labels: list[int]
    """The same, IGNORED where the model is not scored."""
    weights: list[float] | None = None
    """How much each counts; None counts all alike."""
    read_ids: list[int] | None = None
    """The same with other codes here and there, which the model reads instead; None reads them as they are."""


@dataclass(frozen=True)
class Request:
    """What is asked, and what is answered."""

    caption: str
    plan: str | None
    """None for an answer without reasoning."""
    codes: Sequence[int]
    history: Sequence[int] = ()
    """Codes before them, which the model is given."""
    openings: Sequence[int] = (0,)
    """Which of the codes begin a beat; guessed durations tell only the first."""


class SampleWriter:
    """Writes samples of clips and their plans.

    Args:
        plans: Of clips, and of captions without motion.
        codes: Of the clips.
        code_s: Seconds of a code.
        tokenizer: Of the language model.
        layout: Where the tokens of replies are.
        shares: How often each kind comes.
    """

    def __init__(
        self,
        plans: Sequence[PlanRecord],
        codes: ClipCodes,
        code_s: float,
        tokenizer: Tokenizer,
        layout: TokenLayout,
        shares: SampleShares,
    ) -> None:
        self.codes, self.code_s = codes, code_s
        self.tokenizer, self.layout, self.shares = tokenizer, layout, shares
        self.template = PromptTemplate(tokenizer, PROMPT_TEMPLATE, layout)
        self.text: list[PlanRecord] = []
        self.written: list[PlanRecord] = []
        self.by_clip: dict[str, list[PlanRecord]] = defaultdict(list)
        too_long: list[str | None] = []
        for record in plans:
            if len(text_ids(tokenizer, record.plan)) > MAX_REASONING_TOKENS:
                too_long.append(record.clip_id)
            elif record.clip_id is None:
                (self.written if record.writer == WRITTEN else self.text).append(record)
            else:
                self.by_clip[record.clip_id].append(record)
        if too_long:
            logger.warning(
                "%d of %d plans left out: more than %d tokens", len(too_long), len(plans), MAX_REASONING_TOKENS
            )
        self.not_plannable = {clip_id for clip_id in too_long if clip_id is not None} - self.by_clip.keys()
        """Clips all of whose plans are too long."""

    def of_clip(self, clip: PreparedClip, random: np.random.Generator, with_plan: bool) -> Sample:
        """A caption of a clip and its codes, or a part of them that goes on from the rest."""
        records, series = self.by_clip[clip.clip_id], self.codes[clip.clip_id]
        record, codes = records[int(random.integers(len(records)))], series[int(random.integers(len(series)))]
        openings = (0,) if clip.plan is None else self._openings(record.plan, len(codes))
        request = Request(record.caption, self.timed(record.plan, codes), codes, openings=openings)
        if random.random() < self.shares.history_share:
            request = self._continued(clip, request, random)
        if self.shares.wordless_share and random.random() < self.shares.wordless_share:
            return self.write(replace(request, caption=WORDLESS, plan=None), random)
        planned = random.random() < self.shares.plan_share
        return self.write(request if with_plan and planned else replace(request, plan=None), random)

    def of_text(self, random: np.random.Generator) -> Sample:
        """A caption without motion, and its plan; not scored on how long each beat takes, which is to be learned from
        motions that there are.
        """
        written = self.written and (not self.text or random.random() < self.shares.written_share)
        records = self.written if written else self.text
        record = records[int(random.integers(len(records)))]
        layout, prompt = self.layout, self._prompt(record.caption, random)
        plan = self.tokenizer.encode(record.plan, add_special_tokens=False)
        durations = [found.span() for found in _DURATION.finditer(record.plan)]
        scored = [
            token if all(end <= first or last <= start for first, last in durations) else IGNORED
            for token, (start, end) in zip(plan.ids, plan.offsets, strict=True)
        ]
        input_ids = [*prompt, layout.think_open, *plan.ids, layout.think_close]
        labels = [IGNORED] * len(prompt) + [layout.think_open, *scored, layout.think_close]
        return Sample(input_ids, labels, [self.shares.plan_weight] * len(labels))

    def write(self, request: Request, random: np.random.Generator | None = None) -> Sample:
        """A whole reply, as the model writes it after the history it is given; without `random` captions stay as they
        are.
        """
        reasoning = None if request.plan is None else text_ids(self.tokenizer, request.plan)
        reply = self.layout.reply_ids(reasoning, [*request.history, *request.codes])
        first = reply.index(self.layout.motion_open) + 1
        given = first + len(request.history) * self.layout.num_levels
        ends = [*reply[given:], self.layout.turn_end]
        prompt, begun, history = self._prompt(request.caption, random), reply[:first], reply[first:given]
        labels = [IGNORED] * len(prompt) + begun + [IGNORED] * len(history) + ends
        input_ids = [*prompt, *begun, *history, *ends]
        weights = [self.shares.plan_weight] * (len(prompt) + len(begun)) + [1.0] * len(history)
        levels = [1.0] + [self.shares.later_weight] * (self.layout.num_levels - 1)
        for code in range(len(request.codes)):
            of_code = self.shares.opening_weight if code in request.openings else 1.0
            weights += [of_code * of_level for of_level in levels]
        weights += [1.0, 1.0]  # The ends of motion and turn.
        if random is None:
            return Sample(input_ids, labels, weights)
        thinned, read_ids = self._thinned(labels, random), self._corrupted(input_ids, random)
        return Sample(input_ids, thinned, weights, read_ids)

    def _continued(self, clip: PreparedClip, request: Request, random: np.random.Generator) -> Request:
        """The same from a later code on: from a later beat of an exact plan, with plan and caption of what is left; or
        anywhere in what is one beat, with the same caption and without a plan, because when a plan is written nothing
        tells how much of the motion there is already. Guessed durations of several beats are nothing to cut by.
        """
        assert request.plan is not None
        plan, num_codes = parse_plan(request.plan), len(request.codes)
        caption, left, cut, openings = request.caption, None, 0, ()
        if len(plan.beats) == 1 and num_codes > SHORTEST_REST:
            cut = int(random.integers(1, num_codes - SHORTEST_REST + 1))
        elif len(plan.beats) > 1 and clip.plan is not None:
            beat = int(random.integers(1, len(plan.beats)))
            cut = request.openings[beat]
            openings = [opening - cut for opening in request.openings[beat:]]
            left = format_plan(Plan(plan.beats[beat:]))
            caption = as_order(Plan(plan.beats[beat:]), random)
        if not 0 < cut < num_codes:
            return request
        first = max(0, cut - int(random.integers(1, self.shares.max_history + 1)))
        return Request(caption, left, request.codes[cut:], request.codes[first:cut], openings)

    def _openings(self, plan: str, num_codes: int) -> list[int]:
        """Codes with which the beats of an exact plan begin."""
        ends = np.cumsum([0.0, *(beat.duration_s for beat in parse_plan(plan).beats[:-1])])
        return [min(round(end / self.code_s), num_codes - 1) for end in ends]

    def timed(self, written: str, codes: Sequence[int]) -> str:
        """The plan as it was written; one of a single beat with the time that its codes take."""
        first, *others = parse_plan(written).beats
        if others:
            return written
        return format_plan(Plan((replace(first, duration_s=len(codes) * self.code_s),)))

    def _prompt(self, caption: str, random: np.random.Generator | None) -> list[int]:
        if random is not None and random.random() < 0.5:
            caption = caption.rstrip(".")
        return self.template.ids(caption)

    def _thinned(self, labels: list[int], random: np.random.Generator) -> list[int]:
        """The same labels without later levels of a share of the codes."""
        if self.shares.depth_share == 1 or self.layout.num_levels == 1:
            return labels
        thinned, firsts = np.array(labels), self._firsts(labels)[1:]
        left_out = firsts[random.random(len(firsts)) >= self.shares.depth_share]
        thinned[left_out[:, None] + np.arange(1, self.layout.num_levels)] = IGNORED
        return thinned.tolist()

    def _firsts(self, token_ids: Sequence[int]) -> NDArray[np.intp]:
        """Places of the tokens of first levels."""
        first_code, found = self.layout.first_code, np.array(token_ids)
        return np.flatnonzero((found >= first_code) & (found < first_code + self.layout.level_size))

    def _corrupted(self, token_ids: list[int], random: np.random.Generator) -> list[int] | None:
        """The same tokens with a share of the codes replaced, all levels of a code."""
        if not self.shares.corruption:
            return None
        layout, read, codes = self.layout, np.array(token_ids), self._firsts(token_ids)
        starts = layout.first_code + layout.level_size * np.arange(layout.num_levels)
        codes = codes[random.random(len(codes)) < random.uniform(0, self.shares.corruption)]
        others = random.integers(layout.level_size, size=(len(codes), layout.num_levels)) + starts
        read[codes[:, None] + np.arange(layout.num_levels)] = others
        return read.tolist()


class TrainingSamples(Dataset[Sample]):
    """Samples in the order of training. Each is the same whenever it is asked for, so a run that goes on after a kill
    sees what it would have seen.

    Args:
        writer: Writes them.
        clips: Clips to draw from.
        batch: Samples in a batch, which come from clips of like length.
        batches: Batches in a step, of all devices.
        steps: Steps of the run.
        seed: Of the draws.

    Raises:
        ValueError: No clip, or one without a plan.
    """

    def __init__(
        self, writer: SampleWriter, clips: Sequence[PreparedClip], batch: int, batches: int, steps: int, seed: int
    ) -> None:
        self.writer, self.batch, self.batches, self.steps, self.seed = writer, batch, batches, steps, seed
        self.clips = _usable(writer, clips)
        by_length = np.argsort([clip.num_rows for clip in self.clips], kind="stable")
        frequencies = _frequencies(writer, self.clips)
        self.all = _Buckets(by_length, frequencies)
        if writer.shares.composed_share is not None:
            composed = np.array([clip.source == COMPOSED for clip in self.clips])[by_length]
            if composed.all() or not composed.any():
                raise ValueError("composed_share: expected recorded clips and compositions, got one kind; leave it out")
            self.recorded, self.composed = (_Buckets(by_length[kind], frequencies) for kind in (~composed, composed))

    def __len__(self) -> int:
        return self.steps * self.batches * self.batch

    def __getitem__(self, index: int) -> Sample:
        batch = index // self.batch
        of_batch = np.random.default_rng([self.seed, 0, batch])
        random = np.random.default_rng([self.seed, 1, index])
        with_plan = batch // self.batches >= self.writer.shares.vocabulary_steps
        if (
            with_plan
            and (self.writer.text or self.writer.written)
            and of_batch.random() < self.writer.shares.text_share
        ):
            return self.writer.of_text(random)
        buckets, share = self.all, self.writer.shares.composed_share
        if share is not None:
            buckets = self.composed if of_batch.random() < share else self.recorded
        return self.writer.of_clip(self.clips[buckets.draw(of_batch, random)], random, with_plan)


class _Buckets:
    """Clips by their length, drawn by how often each is to come.

    Args:
        by_length: Places of clips, the short ones first, [N].
        frequencies: Of all clips by their places.
    """

    def __init__(self, by_length: NDArray[np.intp], frequencies: NDArray[np.float64]) -> None:
        self.buckets = np.array_split(by_length, min(LENGTH_BUCKETS, len(by_length)))
        sums = np.array([frequencies[bucket].sum() for bucket in self.buckets])
        self.shares = sums / sums.sum()
        self.shares_within = [frequencies[bucket] / whole for bucket, whole in zip(self.buckets, sums, strict=True)]

    def draw(self, of_batch: np.random.Generator, random: np.random.Generator) -> int:
        """The place of a clip: of the bucket that the batch draws, by the sample's own number."""
        bucket = of_batch.choice(len(self.buckets), p=self.shares)
        return int(random.choice(self.buckets[bucket], p=self.shares_within[bucket]))


def _frequencies(writer: SampleWriter, clips: Sequence[PreparedClip]) -> NDArray[np.float64]:
    """How often each clip is to come beside one that is alone with its plan, [N]."""
    plans = [tuple(beat.text for beat in parse_plan(writer.by_clip[clip.clip_id][0].plan).beats) for clip in clips]
    counts = Counter(plans)
    return np.array([float(counts[plan]) for plan in plans]) ** -writer.shares.balance


class HeldOutSamples(Dataset[Sample]):
    """One whole reply for each held-out clip, with its plan unless plans are not learned.

    The short ones come first: with several processes the last batch is filled up with copies, which are recognised by
    their place among rows, and rows of a batch have the long ones first.

    Raises:
        ValueError: No clip, or one without a plan.
    """

    def __init__(self, writer: SampleWriter, clips: Sequence[PreparedClip]) -> None:
        ordered = sorted(_usable(writer, clips), key=lambda clip: clip.num_rows)
        records = [(writer.by_clip[clip.clip_id][0], writer.codes[clip.clip_id][0]) for clip in ordered]
        planned = writer.shares.plan_share > 0
        self.samples = [
            writer.write(Request(record.caption, writer.timed(record.plan, codes) if planned else None, codes))
            for record, codes in records
        ]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


def _usable(writer: SampleWriter, clips: Sequence[PreparedClip]) -> list[PreparedClip]:
    """Clips whose codes are not too many, all of which have plans that are not too long."""
    most = writer.shares.max_codes
    short = [clip for clip in clips if 0 < _longest(writer.codes[clip.clip_id]) <= most]
    usable = [clip for clip in short if clip.clip_id not in writer.not_plannable]
    if len(usable) < len(short):
        logger.warning("%d of %d clips left out: all of their plans are too long", len(short) - len(usable), len(clips))
    if not usable:
        raise ValueError(
            f"none of {len(clips)} clips has 1 to {most} codes and a plan of at most {MAX_REASONING_TOKENS} tokens; "
            "prepare others, or set max_codes"
        )
    if missing := [clip.clip_id for clip in usable if clip.clip_id not in writer.by_clip]:
        raise ValueError(f"no plan for {len(missing)} clips, {missing[0]} first; run build-reasoning again")
    return usable


def _longest(series: Sequence[Sequence[int]]) -> int:
    return max(map(len, series), default=0)
