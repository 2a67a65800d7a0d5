"""What clips say, so that two that say the same do not stand against each other.

Recordings with the same captions are one group. A composition says the groups of the recordings that it was made of,
in order; a beat says the group of its own.
"""

from collections.abc import Iterable, Sequence

from python_core.clips.clip import mirror_text
from python_core.clips.prepared import COMPOSED, PreparedClip
from python_core.contract.plan import parse_plan

Meaning = tuple[str, ...]


class Meanings:
    """Names what is said by clips and their beats.

    Args:
        clips: All that were prepared, so that compositions find the recordings that they were made of.
    """

    def __init__(self, clips: Iterable[PreparedClip]) -> None:
        clips = list(clips)
        self._groups = {clip.clip_id: _group(clip.captions) for clip in clips if clip.source != COMPOSED}
        # What compositions call the recordings of a group, which tells that groups with other captions say it too.
        self._called: dict[str, set[str]] = {}
        for clip in clips:
            if clip.source == COMPOSED and clip.plan is not None:
                groups, texts = self._sources(clip), _beat_texts(clip.plan)
                if len(groups) == len(texts):
                    for group, text in zip(groups, texts, strict=True):
                        self._called.setdefault(group, set()).add(text)

    def of_clip(self, clip: PreparedClip, backwards: bool = False) -> frozenset[Meaning]:
        """Names of what a whole clip says, several where it can be said in several ways.

        Args:
            clip: Any clip.
            backwards: Whether its beats come in reverse order.
        """
        if clip.source != COMPOSED:
            return self._of_group(_group(clip.captions))
        step = -1 if backwards else 1
        found: set[Meaning] = {("clips", _kind(clip), *self._sources(clip)[::step])}
        if clip.plan is not None:
            found.add(("beats", *_beat_texts(clip.plan)[::step]))
        return frozenset(found)

    def of_beat(self, clip: PreparedClip, number: int) -> frozenset[Meaning]:
        """The same of one beat of its plan, counted from 0."""
        assert clip.plan is not None, "a beat is a beat of a plan"
        texts, groups = _beat_texts(clip.plan), self._sources(clip)
        found = {("beats", texts[number])}
        if len(groups) == len(texts):
            found |= self._of_group(groups[number])
        return frozenset(found)

    def _of_group(self, group: str) -> frozenset[Meaning]:
        return frozenset({("clips", group), *(("beats", text) for text in self._called.get(group, ()))})

    def _sources(self, clip: PreparedClip) -> list[str]:
        """Groups of the recordings that a composition was made of, in order; none of a recording."""
        if clip.source != COMPOSED:
            return []
        name = clip.clip_id.rpartition("@")[0]
        mirrored = name.startswith("M")
        groups = [self._groups.get(clip_id, clip_id) for clip_id in name.removeprefix("M")[1:].split("+")]
        return [mirror_text(group) for group in groups] if mirrored else groups


def plain_caption(caption: str) -> str:
    """A caption without what makes no difference."""
    return caption.lower().strip(" .")


def _kind(clip: PreparedClip) -> str:
    """J where recordings were joined in time, X where they were mixed by body part."""
    return clip.clip_id.removeprefix("M")[:1]


def _group(captions: Sequence[str]) -> str:
    return "\n".join(plain_caption(caption) for caption in captions)


def _beat_texts(plan: str) -> list[str]:
    return [beat.text for beat in parse_plan(plan).beats]
