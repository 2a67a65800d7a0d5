"""Captions for composed clips: what people said about the parts, in one natural sentence.

A caption loses its subject and its verbs take their base form, as the planner writes beats; a sentence gives them one
subject again and joins them in the order of time ("and then", "before", "after") or at one time ("while", "as").
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from python_core.clips.clip import Clip, mirror_text
from python_core.contract.plan import Beat
from python_core.reasoning.clauses import word_set
from python_core.reasoning.planner import MAX_WORDS

if TYPE_CHECKING:
    from python_core.reasoning.planner import Planner

MAX_BEATS_IN_PHRASE = 2
"""A caption with more is a story of its own, too long to be one beat."""

_NEUTRAL = ("a person", "someone", "the person", "a figure", "somebody", "person")
_MALE = ("a man", "he", "the man")
_NEUTRAL_WEIGHTS = (10, 6, 5, 2, 1, 1)

# {s} subject, {f1} "walks", {g1} "walking", {b1} "walk".
_JOINED = {
    2: (
        "{s} {f1} and then {f2}",
        "{s} {f1}, then {f2}",
        "{s} {f1}, and then {f2}",
        "{s} {f1} and after that {f2}",
        "{s} {f1}, after that {f2}",
        "{s} {f1} before {g2}",
        "after {g1}, {s} {f2}",
        "{g1} and then {g2}",
    ),
    3: (
        "{s} {f1}, then {f2} and finally {f3}",
        "{s} {f1}, then {f2}, then {f3}",
        "{s} {f1}, {f2} and then {f3}",
        "{s} {f1}, after that {f2} and finally {f3}",
        "after {g1}, {s} {f2} and then {f3}",
        "{s} {f1} and then {f2} before {g3}",
    ),
    4: (
        "{s} {f1}, then {f2}, then {f3} and finally {f4}",
        "{s} {f1}, {f2}, then {f3} and finally {f4}",
        "{s} {f1}, then {f2}, after that {f3} and finally {f4}",
        "after {g1}, {s} {f2}, then {f3} and finally {f4}",
    ),
    5: (
        "{s} {f1}, then {f2}, then {f3}, after that {f4} and finally {f5}",
        "{s} {f1}, {f2}, then {f3}, then {f4} and finally {f5}",
    ),
}
_MIXED = (
    "{s} {f1} while {g2}",
    "{s} {f2} while {g1}",
    "{s} {f1} as they {b2}",
    "while {g1}, {s} {f2}",
    "{s} {f1} and {f2} at the same time",
    "{g1} while {g2}",
)

_ADVERBS = word_set("quickly slow fast twice also")
_NO_VERBS = word_set("left right both arm arms hand hands leg legs foot feet head body")
_PLURALS = word_set(
    "arms hands legs knees elbows shoulders hips heels toes steps kicks punches jumps hops circles turns twirls spins "
    "swings stretches forwards backwards sideways"
)
"""Nouns and adverbs that look like a verb after "and"."""
_STAND_ALONE = word_set("stand walk run jump sit jog lie")
"""Verbs that take no object: "stand lifts a knee" is two clauses that were read as one."""
_LOST_PASSIVE = re.compile(r"\b(?:is|are|was|were|gets|got|been|being) (?:hit|cut|hurt|put|set)\b", re.IGNORECASE)
"""The planner tells a passive by its participle, which looks like the base form here."""
_OTHERS = word_set("he she i you we person man woman someone figure him another again resume")
"""People who would be strangers in a new sentence, and words that lean on something said before."""
_BEFORE_FINITE = word_set("they that which what where it if as who")


@dataclass(frozen=True)
class Phrase:
    """What is done, without who does it: "walk forward"."""

    text: str
    """Base form, as a beat says it."""
    finite: str
    """walks forward"""
    gerund: str
    """walking forward"""
    verb: str
    """The first verb, base form."""
    body_parts: tuple[str, ...] = ()
    num_beats: int = 1

    @property
    def plain(self) -> bool:
        """One action with no further clause, so that "before", "after" and "while" can only mean that action."""
        return not re.search(r",|\b(?:and|or|while|as|before|after|then)\b", self.text)

    def mirrored(self) -> "Phrase":
        parts = tuple(mirror_text(part) for part in self.body_parts)
        return Phrase(
            mirror_text(self.text),
            mirror_text(self.finite),
            mirror_text(self.gerund),
            self.verb,
            parts,
            self.num_beats,
        )


def read_phrases(clips: Sequence[Clip], planner: "Planner") -> tuple[dict[str, tuple[Phrase, ...]], Counter[str]]:
    """The phrases of each clip by its id, those of one beat first, and how many captions gave none, by reason.

    Captions of a part of a clip are left alone. A mirrored clip has the mirrored phrases of what its original says,
    so that the tagger, who reads "right" and "left" differently, cannot tell them apart.
    """
    captions = [
        (clip, mirror_text(caption.text) if clip.mirrored else caption.text)
        for clip in clips
        for caption in clip.captions
        if caption.start_s == caption.end_s == 0 and re.search("[a-zA-Z0-9]", caption.text)
    ]
    plans = planner.plan_many([(text, 10.0) for _, text in captions])
    read = [
        "has a passive that the planner does not keep" if _LOST_PASSIVE.search(text) else _phrase(plan.beats)
        for (_, text), plan in zip(captions, plans, strict=True)
    ]
    # What the planner does not read as one sentence with these same beats, the model would not either.
    phrases = [phrase for phrase in read if isinstance(phrase, Phrase)]
    again = planner.plan_many([(f"a person {phrase.finite}", 10.0) for phrase in phrases])
    sound = {phrase for phrase, plan in zip(phrases, again, strict=True) if _phrase(plan.beats) == phrase}
    found: dict[str, list[Phrase]] = {clip.clip_id: [] for clip in clips}
    skipped: Counter[str] = Counter()
    for (clip, _), phrase in zip(captions, read, strict=True):
        if isinstance(phrase, str):
            skipped[f"caption {phrase}"] += 1
        elif phrase not in sound:
            skipped["caption reads differently when it is joined"] += 1
        else:
            phrase = phrase.mirrored() if clip.mirrored else phrase
            if phrase not in found[clip.clip_id]:
                found[clip.clip_id].append(phrase)
    return {clip_id: tuple(sorted(one, key=lambda phrase: phrase.num_beats)) for clip_id, one in found.items()}, skipped


def join_captions(phrases: Sequence[Phrase], num: int, random: np.random.Generator) -> tuple[str, ...]:
    """Different sentences, `num` at most, that say the phrases one after the other.

    Raises:
        ValueError: Fewer than 2 phrases or more than 5, which no sentence joins.
    """
    if len(phrases) not in _JOINED:
        raise ValueError(f"a caption joins 2 to {max(_JOINED)} phrases, got {len(phrases)}")
    return _sentences(_JOINED[len(phrases)], phrases, num, random)


def mix_captions(lower: Phrase, upper: Phrase, num: int, random: np.random.Generator) -> tuple[str, ...]:
    """Different sentences, `num` at most, that say both phrases at one time.

    Raises:
        ValueError: Phrases that `mix_phrases` does not put together.
    """
    if mix_phrases(lower, upper) is None:
        raise ValueError(f"expected two short phrases of one action each, got {lower.text!r} and {upper.text!r}")
    return _sentences(_MIXED, (lower, upper), num, random)


def mix_phrases(lower: Phrase, upper: Phrase) -> Phrase | None:
    """The two as one beat, "walk forward while waving"; None if they do not fit one."""
    text = f"{lower.text} while {upper.gerund}"
    if not (lower.plain and upper.plain) or "be" in (lower.verb, upper.verb) or len(text.split()) > MAX_WORDS:
        return None
    ending = f" while {upper.gerund}"
    return Phrase(text, lower.finite + ending, lower.gerund + ending, lower.verb, upper.body_parts)


def _sentences(
    templates: tuple[str, ...], phrases: Sequence[Phrase], num: int, random: np.random.Generator
) -> tuple[str, ...]:
    if not all(phrase.plain for phrase in phrases):
        # With "and" inside a phrase only "then" and the like tell where the next begins.
        templates = tuple(template for template in templates if _is_firm(template))
    words = {}
    for number, phrase in enumerate(phrases, start=1):
        words |= {f"f{number}": phrase.finite, f"g{number}": phrase.gerund, f"b{number}": phrase.text}
    neutral = any(re.search(r"\b(?:they|their|them|themselves|themself)\b", text) for text in words.values())
    sentences = []
    for place in random.permutation(len(templates))[:num]:
        template = templates[place]
        neutral_weights = np.array(_NEUTRAL_WEIGHTS) / sum(_NEUTRAL_WEIGHTS)
        is_male = bool(random.random() < 0.3) and not neutral and "they" not in template
        subject = str(random.choice(_MALE)) if is_male else str(random.choice(_NEUTRAL, p=neutral_weights))
        ending = "." if random.random() < 0.7 else ""
        sentences.append(template.format(s=subject, **words) + ending)
    return tuple(sentences)


def _is_firm(template: str) -> bool:
    joints = re.findall(r"\bthen\b|\bafter that\b|\bfinally\b", template)
    return "{g" not in template and len(joints) == template.count("{f") - 1


def _phrase(beats: Sequence[Beat]) -> Phrase | str:
    """The phrase of a caption that was read as beats, or why it has none."""
    if len(beats) > MAX_BEATS_IN_PHRASE:
        return f"has more than {MAX_BEATS_IN_PHRASE} beats"
    forms = [_inflect(_neutral(beat.text)) for beat in beats]
    read = [form for form in forms if form is not None]
    if len(read) < len(forms):
        return "has no verb that can be joined"
    texts, finites, gerunds = (
        " and ".join(words) for words in zip(*((f.text, f.finite, f.gerund) for f in read), strict=True)
    )
    if len(texts.split()) > MAX_WORDS:
        return f"has more than {MAX_WORDS} words"
    parts = tuple(dict.fromkeys(part for beat in beats for part in beat.body_parts))
    return Phrase(texts, finites, gerunds, read[0].verb, parts, len(beats))


def _neutral(text: str) -> str:
    text = re.sub(r"(?<=\w) - (?=\w)", "-", text)  # the planner's words are spaCy's
    text = re.sub(r"\b(?:he|she) is\b", "they are", text)
    text = re.sub(r"\b(?:himself|herself)\b", "themselves", text)
    return re.sub(r"\b(?:his|her)\b", "their", text)


def _inflect(text: str) -> Phrase | None:
    """The forms of a beat's text; None where its first verb is not one, or words need another sentence."""
    words = text.split()
    place = next((k for k, word in enumerate(words) if word not in _ADVERBS and not word.endswith("ly")), len(words))
    if (
        place == len(words)
        or _OTHERS & set(words)
        or any(_is_second_verb(words, k) for k in range(place + 1, len(words)))
    ):
        return None
    verb = words[place]
    if verb in _NO_VERBS or verb not in _lemmas(verb):
        return None
    third, gerund = ("is", "being") if verb == "be" else (_form(verb, "VBZ"), _form(verb, "VBG"))
    if not third or not gerund:
        return None
    before, after = words[:place], words[place + 1 :]
    return Phrase(
        text=" ".join([*before, verb, *_conjoin(after, "")]),
        finite=" ".join([*before, third, *_conjoin(after, "VBZ")]),
        gerund=" ".join([*before, gerund, *_conjoin(after, "VBG")]),
        verb=verb,
    )


def _conjoin(words: Sequence[str], tag: str) -> list[str]:
    """Give verbs after "and", which the planner left as they were, the form of the first: "wait and looks"."""
    inflected = list(words)
    for k, word in enumerate(words[1:], start=1):
        if words[k - 1] == "and" and word not in _PLURALS:
            lemma = next((lemma for lemma in _lemmas(word) if word == _form(lemma, "VBZ")), None)
            if lemma is not None:
                inflected[k] = _form(lemma, tag) if tag else lemma
    return inflected


def _is_second_verb(words: Sequence[str], k: int) -> bool:
    """Whether a finite verb stands where the phrase has its verb already."""
    word, before = words[k], words[k - 1]
    if word in ("is", "are", "was", "were", "has", "have"):
        return before not in _BEFORE_FINITE
    if before in _STAND_ALONE and word.endswith("s") and not word.endswith("ways") and not word.endswith("wards"):
        return any(word == _form(lemma, "VBZ") for lemma in _lemmas(word))
    return False


def _lemmas(word: str) -> tuple[str, ...]:
    import lemminflect

    return lemminflect.getAllLemmas(word, upos="VERB").get("VERB", ())


def _form(lemma: str, tag: str) -> str:
    import lemminflect

    forms = lemminflect.getInflection(lemma, tag=tag)
    return forms[0] if forms else ""
