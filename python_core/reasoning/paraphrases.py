"""Other ways to say a caption, and captions of other things that are said in the same way.

    Paraphraser   another subject, synonyms of its verbs and adverbs, other words for "then"
    as_order      its beats, as one gives an order: "walk forward, then sit down"
    OtherWords    other actions, things and manners, so that a plan is written by taking words over, whatever they are

A paraphrase does what its caption does, so the plan stays but for verbs that changed. Other words are another motion,
so they are for captions that have none.
"""

import itertools
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from python_core.contract.plan import Beat, Plan
from python_core.reasoning.clauses import BODY_PART, word_set
from python_core.reasoning.planner import Grammar
from python_core.reasoning.synonyms import Synonyms
from python_core.reasoning.wordnet import WordKinds

if TYPE_CHECKING:
    from spacy.tokens import Doc, Token

EDIT_SHARE = 0.5
"""Chance of each edit that could be made."""
TRIES = 8
"""For each rewording that is asked for, until one differs from those before."""
NUM_OTHERS = 8
"""Other words that are drawn for one."""
CONNECTIVES = (", then ", " then ", ", and then ", " and ")
"""Between the beats of an order."""

_SUBJECTS = ("a person", "someone", "somebody", "the person", "a figure", "a character")
_ROLES = word_set(
    "guard soldier knight warrior villager merchant farmer thief bandit wizard witch king queen prince princess hero "
    "heroine monk priest archer hunter ranger pirate sailor captain miner smith baker cook butler servant beggar child "
    "boy girl dancer boxer fighter wrestler gymnast acrobat athlete runner player goblin orc elf dwarf troll giant "
    "zombie skeleton ghost vampire robot android cyborg alien pilot driver officer detective spy ninja samurai monster "
    "nurse doctor student worker mechanic clown drunk prisoner gladiator barbarian paladin rogue bard druid traveler"
)
_SUBJECT = re.compile(
    "(?:(?:(?:a|the|this) )?(?:person|man|woman|figure|character|human|guy|sim|individual)|someone|somebody)(?= )",
    re.IGNORECASE,
)
_THEN = re.compile(r"(?<=[a-z]),? (?:and )?then(?= [a-z])")
_THENS = (", then", " and then", ", and then", ", after that,")
_WORD = re.compile(r"\b(?:(an?) )?([a-z]+)")
# Parts of the body that are no limbs, which a plan names as well, directions, people, and counts.
_KEPT = word_set(
    "head neck face torso waist chest body hip left right side back front way top bottom forward backward "
    "clockwise counterclockwise person man woman figure character human guy individual time step bit"
)


@dataclass(frozen=True)
class Rewording:
    """A caption in other words."""

    text: str
    changes: tuple[tuple[str, str], ...] = ()
    """Words of the plan that changed and what they became; verbs in base form."""

    def plan(self, plan: Plan) -> Plan:
        """The plan of the caption, with the words that changed."""
        changes = dict(self.changes)

        def changed(found: re.Match[str]) -> str:
            article, word = found.groups()
            if word not in changes:
                return found[0]
            return _with_article(changes[word]) if article else changes[word]

        return Plan(tuple(Beat(_WORD.sub(changed, beat.text), beat.duration_s, beat.body_parts) for beat in plan.beats))

    def is_of(self, plan: Plan) -> bool:
        """Whether the plan has each word that changed, once."""
        words = [word for beat in plan.beats for _, word in _WORD.findall(beat.text)]
        return all(words.count(old) == 1 for old, _ in self.changes)


@dataclass(frozen=True)
class _Edit:
    """Text in place of characters `start` to `end`."""

    start: int
    end: int
    choices: tuple[str, ...]
    changes: tuple[tuple[str, str], ...] = ()
    """Parallel to the choices, where a word of the plan changes."""


class _Rewriter:
    """Writes rewordings; a caption and a seed always give the same.

    Args:
        grammar: Tags the words of a caption.
        seed: Of the choices.
    """

    _keeps_plan = True
    """Whether a rewording may leave the plan as it is."""

    def __init__(self, grammar: Grammar, seed: int) -> None:
        self._grammar, self._seed = grammar, seed

    def rewrite_many(self, captions: Sequence[str], count: int) -> Iterator[tuple[Rewording, ...]]:
        """At most `count` rewordings of each caption, fewer where it can be said in fewer ways; no two are equal."""
        again, texts = itertools.tee(captions)
        for caption, doc in zip(again, self._grammar.nlp.pipe(texts), strict=True):
            yield self._rewrite(caption, doc, count)

    def _rewrite(self, caption: str, doc: "Doc", count: int) -> tuple[Rewording, ...]:
        random = np.random.default_rng([self._seed, zlib.crc32(caption.encode())])
        edits = sorted(self._edits(caption, doc, random), key=lambda edit: edit.start)
        found: dict[str, Rewording] = {}
        for _ in range(TRIES * count if edits else 0):
            if len(found) == count:
                break
            chosen = random.random(len(edits)) < EDIT_SHARE
            text, end, changes = "", 0, []
            for edit, made in zip(edits, chosen, strict=True):
                choice = int(random.integers(len(edit.choices)))
                if made:
                    text += caption[end : edit.start] + edit.choices[choice]
                    end = edit.end
                    changes += edit.changes[choice : choice + 1]
            text += caption[end:]
            if text != caption and (changes or self._keeps_plan):
                found.setdefault(text, Rewording(text, tuple(changes)))
        return tuple(found.values())

    def _edits(self, caption: str, doc: "Doc", random: np.random.Generator) -> Iterator[_Edit]:
        """Another subject, in half of the cases one of a game, and other words for "then"."""
        if match := _SUBJECT.match(caption):
            subjects = [subject for subject in _SUBJECTS if subject != match[0].lower()]
            subjects += [f"the {role}" for role in _draw(sorted(_ROLES), len(subjects), random)]
            yield _Edit(0, match.end(), tuple(map(str.capitalize, subjects) if caption[0].isupper() else subjects))
        for match in _THEN.finditer(caption):
            yield _Edit(match.start(), match.end(), tuple(then for then in _THENS if then != match[0]))

    def _verb_edit(self, token: "Token", others: Sequence[str]) -> Iterator[_Edit]:
        verbs = [(other, form) for other in others if (form := self._inflect(other, token))]
        if verbs and _is_said_once(token.lemma_, token.doc):
            changes = tuple((token.lemma_, other) for other, _ in verbs)
            yield _Edit(token.idx, token.idx + len(token.text), tuple(form for _, form in verbs), changes)

    def _inflect(self, lemma: str, token: "Token") -> str | None:
        forms = self._grammar.lemminflect.getInflection(lemma, tag=token.tag_)  # pyright: ignore[reportAttributeAccessIssue]
        return forms[0] if forms else None


class Paraphraser(_Rewriter):
    """Says the same in other words.

    Args:
        synonyms: What may stand for what.
        grammar: Tags the words of a caption.
        seed: Of the choices.
    """

    def __init__(self, synonyms: Synonyms, grammar: Grammar, seed: int) -> None:
        super().__init__(grammar, seed)
        self._synonyms = synonyms

    def _edits(self, caption: str, doc: "Doc", random: np.random.Generator) -> Iterator[_Edit]:
        yield from super()._edits(caption, doc, random)
        for token in doc:
            if token.pos_ == "VERB":
                yield from self._verb_edit(token, self._synonyms.verbs.get(token.lemma_, ()))
            elif token.pos_ == "ADV" and (others := self._synonyms.adverbs.get(token.text)):
                yield _Edit(token.idx, token.idx + len(token.text), others)


class OtherWords(_Rewriter):
    """Says something else in the same way.

    Args:
        kinds: Words that may stand for any other of their kind.
        grammar: Tags the words of a caption.
        seed: Of the choices.
    """

    def __init__(self, kinds: WordKinds, grammar: Grammar, seed: int) -> None:
        super().__init__(grammar, seed)
        self._kinds = kinds

    _keeps_plan = False

    def _edits(self, caption: str, doc: "Doc", random: np.random.Generator) -> Iterator[_Edit]:
        yield from super()._edits(caption, doc, random)
        for token in doc:
            if token.pos_ == "VERB":
                yield from self._verb_edit(token, _draw(self._kinds.actions, NUM_OTHERS, random))
            elif token.tag_ == "NN" and token.text not in _KEPT and not BODY_PART.search(token.text):
                yield from self._word_edit(token, _draw(self._kinds.things, NUM_OTHERS, random))
            elif token.pos_ == "ADV" and token.text.endswith("ly"):
                yield from self._word_edit(token, _draw(self._kinds.manners, NUM_OTHERS, random))

    @staticmethod
    def _word_edit(token: "Token", others: Sequence[str]) -> Iterator[_Edit]:
        """Of a word that a plan says as its caption does, together with its article."""
        if not token.text.islower() or not _is_said_once(token.text, token.doc):
            return
        start, texts = token.idx, tuple(others)
        if token.i and (before := token.nbor(-1)).text in ("a", "an"):
            start, texts = before.idx, tuple(map(_with_article, others))
        yield _Edit(start, token.idx + len(token.text), texts, tuple((token.text, other) for other in others))


def as_order(plan: Plan, random: np.random.Generator) -> str:
    """What the beats say, without who does it."""
    return CONNECTIVES[random.integers(len(CONNECTIVES))].join(beat.text for beat in plan.beats)


def _is_said_once(word: str, doc: "Doc") -> bool:
    """A plan has no way to say that a word becomes another one in one place only."""
    return sum(word in (token.text, token.lemma_) for token in doc) == 1


def _with_article(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def _draw(words: Sequence[str], count: int, random: np.random.Generator) -> tuple[str, ...]:
    return tuple(words[int(index)] for index in random.integers(len(words), size=count))
