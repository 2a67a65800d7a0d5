"""Compositions to judge by: the permissive val clips are too few for pools of 32, what can be made of them is not.

    rows.npy         [F, D] exact features, one composition after the other
    clips.jsonl      a composition a line, as `prepared.py` has it, the recordings that it was made of and what it says
    summary.json     written last: of what it was made, counts by the number of beats, what was rejected

They are made of the clips and their mirrored copies. Each ordered choice of them comes up: first pairs, joined or
mixed by body part, then chains of pairs that go together; clips that came up often come up less. Where that is not
enough, choices with a long steady motion in them come up again with another piece of it. So some 30 recordings
give about 2,000 compositions that are not independent, which is why they remember their recordings (`bootstrap.py`).
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from python_core.checkpoint import start_run, write_json
from python_core.clips.clip import Clip, mirror_clip
from python_core.clips.licences import is_permissive
from python_core.clips.preparation import one_thread
from python_core.clips.prepared import COMPOSED, PreparedClip, PreparedClips, read_prepared
from python_core.clips.takes import clip_takes, is_mirrored_copy
from python_core.composed_motion import CompositionError
from python_core.composition import CUT_FRAMES, Pool, Recipe
from python_core.contract.plan import format_plan
from python_core.evaluation.protocols import group_by_keys
from python_core.features import exact_features
from python_core.reasoning.planner import Planner
from python_core.whole_file import write_text

logger = logging.getLogger(__name__)

FORMAT_VERSION = 2
SUMMARY = "summary.json"
SPLIT = "val_composed"
MIXED_PARTS = ("upper body", "left arm", "right arm")
PAIRS_SHARE = 0.5
"""Pairs make up at most so many, if there are chains; longer plans are what is hard."""
CHAINS_OF_3 = 0.75
"""So many chains have three parts, the others four."""
MAX_PIECES = 4
"""A choice of clips comes up this often at most, and more than once only with other pieces of a long steady motion."""
MAX_WALKS = 12
"""Chains that are drawn for each composition that is wanted, before there are fewer."""


@dataclass(frozen=True, kw_only=True)
class ValComposedConfig:
    """What to compose."""

    num: int = 2048
    """Compositions."""

    split: str = "val"
    """Whose clips they are made of."""

    seed: int = 1
    """Draws them."""


@dataclass(frozen=True, eq=False)
class ValComposed:
    """Compositions and what they were made of."""

    prepared: PreparedClips
    """One split, `val_composed`; statistics are those of the clips that they were made of."""
    made_of: dict[str, tuple[str, ...]]
    """Recordings (takes) of each composition, by its id."""
    meanings: dict[str, str]
    """What each composition says, by its id: compositions with one meaning are of clips that say the same, in the same
    order, mixed by the same part of the body.
    """

    def is_for_choosing(self, clip_id: str) -> bool:
        """Whether a composition is in the half by which weights are chosen; the other half is for tables.

        The half depends on what a composition says, so no text is in both; other pieces of the same clips are with it.
        """
        return hashlib.sha256(f"for choosing: {self.meanings[clip_id]}".encode()).digest()[0] % 2 == 0


def compose_val(prepared_folder: Path, out: Path, config: ValComposedConfig) -> ValComposed:
    """Make the compositions, or read them where they were made before.

    Raises:
        ValueError: Fewer than 2 permissive clips can be composed, none fit together, or the folder holds compositions
            of something else.
    """
    start_run(out, config, {"clips": prepared_folder / "clips.jsonl", "statistics": prepared_folder / "statistics.npz"})
    prepared = read_prepared(prepared_folder)
    if (out / SUMMARY).is_file():
        return read_val_composed(out, prepared)
    clip_ids = frozenset(clip.clip_id for clip in prepared.clips)
    clips = [
        clip
        for clip in prepared.split(config.split)
        if is_permissive(clip.licence) and not is_mirrored_copy(clip.clip_id, clip_ids)
    ]
    rejected: Counter[str] = Counter()
    with one_thread():
        recorded = [clip.as_clip(prepared.features(clip), prepared.frame_rate_hz) for clip in clips]
        mirrored = [mirror_clip(clip) for clip in recorded]
        takes = {
            name: clip_takes(clip, clip_ids)
            for clip, copy in zip(clips, mirrored, strict=True)
            for name in (clip.clip_id, copy.clip_id)
        }
        pool = Pool([*recorded, *mirrored], Planner())
        rejected += pool.skipped
        made: list[tuple[Recipe, Clip]] = []
        with Progress() as progress:
            task = progress.add_task(SPLIT, total=config.num)
            for recipe, clip in _Maker(pool, config, rejected).make_all():
                made.append((recipe, clip))
                progress.advance(task)
        if not made:
            raise ValueError(
                f"{prepared_folder}: no 2 of {len(clips)} permissive clips of split {config.split!r} fit together: "
                f"{dict(rejected)}"
            )
        rows = [exact_features(clip.joints_m, clip.frame_rate_hz) for _, clip in made]
    if len(made) < config.num:
        logger.warning("%d of %d compositions made: %s", len(made), config.num, dict(rejected))
    says = say_the_same({name: {phrase.text for phrase in one.phrases} for name, one in pool.members.items()})
    _write(out, made, rows, takes, says, rejected)
    return read_val_composed(out, prepared)


def read_val_composed(folder: Path, prepared: PreparedClips) -> ValComposed:
    """Read what `compose_val` wrote.

    Args:
        folder: Of the compositions.
        prepared: What they were made of; for its statistics.

    Raises:
        ValueError: The folder is not complete, or of another format version.
    """
    path = folder / SUMMARY
    if not path.is_file():
        raise ValueError(f"{folder}: no {SUMMARY}, so the compositions are not complete; make them again")
    summary = json.loads(path.read_text(encoding="utf-8"))
    if summary["format_version"] != FORMAT_VERSION:
        raise ValueError(f"{path}: format_version {summary['format_version']}, expected {FORMAT_VERSION}; remove it")
    lines = (folder / "clips.jsonl").read_text(encoding="utf-8").split("\n")
    clips, made_of, meanings = [], {}, {}
    for record in (json.loads(line) for line in lines if line):
        made_of[record["clip_id"]] = tuple(record.pop("made_of"))
        meanings[record["clip_id"]] = record.pop("meaning")
        clips.append(PreparedClip.of_record(record))
    rows = np.load(folder / "rows.npy", mmap_mode="r")
    composed = PreparedClips(tuple(clips), rows, prepared.normalizer, prepared.frame_rate_hz)
    return ValComposed(composed, made_of, meanings)


def say_the_same(phrases: Mapping[str, Collection[str]]) -> dict[str, str]:
    """The first of all clips that say the same as a clip, by ids; a mirrored copy is a clip with its own phrases."""
    names = sorted(phrases)
    groups = group_by_keys([phrases[name] for name in names])
    first = dict(zip(groups[::-1].tolist(), names[::-1], strict=True))
    return {name: first[group] for name, group in zip(names, groups.tolist(), strict=True)}


class _Maker:
    """Tries recipes, counts what fails and remembers which clips go together."""

    def __init__(self, pool: Pool, config: ValComposedConfig, rejected: Counter[str]) -> None:
        self.pool, self.config, self.rejected = pool, config, rejected
        self.random = np.random.default_rng(config.seed)
        self.num_attempts = self.num_made = 0
        self.follows: dict[str, list[str]] = {}
        self.uses: Counter[str] = Counter()
        # In the order in which they were made.
        self.made: dict[tuple[tuple[str, ...], str], None] = {}

    def make_all(self) -> Iterator[tuple[Recipe, Clip]]:
        """Pairs and mixes in a random order up to their share, then chains, then what pairs are left, then what has a
        long steady motion in it with another piece of that.
        """
        pairs = self._pairs()
        yield from self._try(pairs, int(PAIRS_SHARE * self.config.num))
        yield from self._try(self._chains(), self.config.num)
        yield from self._try(pairs, self.config.num)
        for _ in range(MAX_PIECES - 1):
            yield from self._try(iter([choice for choice in self.made if self._has_pieces(choice)]), self.config.num)

    def _try(self, choices: Iterator[tuple[tuple[str, ...], str]], up_to: int) -> Iterator[tuple[Recipe, Clip]]:
        while self.num_made < up_to and (choice := next(choices, None)) is not None:
            clip_ids, part = choice
            self.num_attempts += 1
            recipe = Recipe(clip_ids, (self.config.seed, self.num_attempts), part)
            try:
                if not part and self._says_the_same(clip_ids):
                    raise CompositionError("says the same twice", " ".join(clip_ids))
                clip = self.pool.make(recipe)
            except CompositionError as error:
                self.rejected[error.reason] += 1
                continue
            if len(clip_ids) == 2 and not part and choice not in self.made:
                self.follows.setdefault(clip_ids[0], []).append(clip_ids[1])
            self.num_made += 1
            self.uses.update(clip_ids)
            self.made.setdefault(choice, None)
            yield recipe, clip

    def _pairs(self) -> Iterator[tuple[tuple[str, ...], str]]:
        members = self.pool.members
        choices = []
        for first, second in permutations(sorted(members), 2):
            choices.append(((first, second), ""))
            if members[first].lower_phrases and members[second].upper_phrases:
                choices += [((first, second), part) for part in MIXED_PARTS]
        for place in self.random.permutation(len(choices)):
            yield choices[place]

    def _chains(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Walks over pairs that go together, each once, without a clip that comes twice."""
        starts, tried = sorted(self.follows), set()
        for _ in range(self.config.num * MAX_WALKS if starts else 0):
            chain = [self._rarely_used(starts)]
            size = 3 if self.random.random() < CHAINS_OF_3 else 4
            while len(chain) < size and (following := self.follows.get(chain[-1])):
                chain.append(self._rarely_used(following))
            if len(chain) == len({*chain}) == size and tuple(chain) not in tried:
                tried.add(tuple(chain))
                yield tuple(chain), ""

    def _has_pieces(self, choice: tuple[tuple[str, ...], str]) -> bool:
        """Whether another seed gives another motion."""
        members = [self.pool.members[clip_id] for clip_id in choice[0]]
        return any(member.steady and len(member.track) > CUT_FRAMES[1] for member in members)

    def _rarely_used(self, names: Sequence[str]) -> str:
        weights = np.array([1 / (1 + self.uses[name]) for name in names])
        return names[self.random.choice(len(names), p=weights / weights.sum())]

    def _says_the_same(self, clip_ids: Sequence[str]) -> bool:
        """Whether two neighbours have a phrase in common."""
        texts = [{phrase.text for phrase in self.pool.members[clip_id].phrases} for clip_id in clip_ids]
        return any(first & second for first, second in pairwise(texts))


def _write(
    folder: Path,
    made: Sequence[tuple[Recipe, Clip]],
    rows: Sequence[NDArray[np.float32]],
    takes: Mapping[str, frozenset[str]],
    says: Mapping[str, str],
    rejected: Counter[str],
) -> None:
    first_row, lines, sources = 0, [], Counter[str]()
    for (recipe, clip), found in zip(made, rows, strict=True):
        prepared = PreparedClip(
            clip_id=clip.clip_id,
            split=SPLIT,
            source=COMPOSED,
            licence=clip.licence,
            take=clip.take,
            captions=tuple(caption.text for caption in clip.captions),
            plan=None if clip.plan is None else format_plan(clip.plan),
            first_row=first_row,
            num_rows=len(found),
        )
        first_row += len(found)
        made_of = sorted({take for name in recipe.clip_ids for take in takes[name]})
        sources.update(made_of)
        meaning = "+".join(says[name] for name in recipe.clip_ids)
        if recipe.mixed_part:
            meaning += f" by the {recipe.mixed_part}"
        extra = {"made_of": made_of, "meaning": meaning}
        lines.append(json.dumps(prepared.as_record() | extra, ensure_ascii=False))
    temporary = folder / "rows.partial"
    with temporary.open("wb") as file:
        np.save(file, np.concatenate(rows))
    temporary.replace(folder / "rows.npy")
    write_text(folder / "clips.jsonl", "".join(f"{line}\n" for line in lines))
    beats = Counter(0 if clip.plan is None else len(clip.plan.beats) for _, clip in made)
    summary = {
        "format_version": FORMAT_VERSION,
        "num": len(made),
        "made_of": dict(sources.most_common()),
        "by_beats": {str(number): beats[number] for number in sorted(beats)},
        "rejected": dict(rejected.most_common()),
    }
    write_json(folder / SUMMARY, summary)
