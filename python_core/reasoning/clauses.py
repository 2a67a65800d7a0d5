"""Reads the clauses of a caption, in the order of time.

spaCy tags the words; clauses are then found from left to right, not in its parse tree: its parser stumbles over the
run-on sentences that people write about motion, and a wrong tag then costs one clause instead of all of them. Clauses
keep the caption's words, except that the subject goes and verbs take their base form.
"""

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spacy.tokens import Doc, Token


def word_set(text: str) -> frozenset[str]:
    """The words of a text, to look others up in."""
    return frozenset(text.split())


BODY_PART = re.compile(
    r"\b(?:(left|right|both)(?: and (left|right))? |)"
    r"(arm|elbow|shoulder|forearm|hand|fist|palm|wrist|finger|leg|knee|thigh|foot|feet|ankle|heel|toe)(s?)\b(?! side)"
)
"""Groups: side, other side, part, plural s."""

_PEOPLE = word_set(
    "person man woman guy someone somebody figure character he she they human individual boy girl lady stickman "
    "dancer persons actor player male female one people subject being avatar soldier kid child i you mannequin model "
    "robot son"
)
_DETERMINERS = word_set("a an the this that your some another our")
_RELATIVES = word_set("who that which")
_PAUSES = word_set(". ; ! ? ,")
_SEQUENCE = word_set("then afterwards afterward next finally subsequently lastly thereafter and but & followed")
_SIMULTANEOUS = word_set("while whilst as")
_SUBORDINATE = word_set("if though that which who where when like until because how what whenever so for")
_AUXILIARIES = word_set("is are was were be been being am has have had does do did can could will would 's")
_STARTS = word_set("begin start appear seem proceed continue resume see look show happen decide")
"""Verbs that say nothing about the motion when another verb follows; those in `_NEEDS_TO` only before "to"."""
_NEEDS_TO = word_set("look decide see happen")
_NOUN_VERBS = word_set("do perform make execute")
_MOTION_VERBS = word_set(
    "walk run jog jump hop skip step turn spin twist kick punch throw wave clap bow crouch squat kneel crawl dance "
    "march pace stumble stagger limp sneak strafe dodge block swing raise lift lower reach lean bend stretch rotate "
    "pivot lunge leap dash sprint stroll stop pause rest sit stand lie fall roll flip climb dribble pass catch shoot "
    "box jab salute nod shake point touch rub scratch drink eat swim row paddle jerk shuffle slide glide circle "
    "stride stomp tap balance float duck back hold place put pick grab push pull drag drop return hunch tilt flap "
    "wiggle sway mime mimic gesture signal whirl twirl cartwheel somersault waltz veer trot tiptoe trip cross wipe "
    "wash stir open close face start pretend flail hit strike swipe slash knock look shift move take go come get"
)
"""Verbs that may begin a beat where the tagger saw a noun ("person jogs") or the writer dropped an s ("and turn")."""


@dataclass
class Clause:
    """One thing that is done, as it is read; its words say it."""

    words: list[str]
    lemma: str
    form: str
    """Of the verb as it stood: `finite`, `base`, `ing`, or `progressive` for "is walking"."""
    past: bool = False
    infinitive: bool = False
    """A "to" came: a base form after "and" belongs to it."""
    simultaneous: bool = False
    subordinate: bool = False
    """Inside "as if", "where" and the like, whose verbs are no beats."""


@dataclass(frozen=True)
class _Head:
    """Where a clause begins: its subject, adverbs and auxiliaries are behind, `end` is the token after its verb."""

    words: list[str]
    lemma: str
    form: str
    end: int
    has_subject: bool
    past: bool


@dataclass
class ClauseReader:
    """Reads a caption from left to right and keeps what it has read as clauses in the order of time."""

    doc: "Doc"
    lemminflect: object
    clauses: list[Clause] = field(default_factory=list)
    preamble: list[str] = field(default_factory=list)
    """Words before the first verb that are not the subject ("with arms out, he walks"): they end the first beat."""

    def read(self) -> list[Clause]:
        """All clauses of the caption; empty where no verb was found. Call it once."""
        doc, current, i = self.doc, None, 0
        is_reversed = False  # the caption begins with "before": its second clause comes first
        while i < len(doc):
            word = doc[i].text
            # where a new clause may begin, and with which connectors
            j, joints = self._skip_joints(i)
            if current is None or joints:
                order = ""
                if j < len(doc) and doc[j].text in ("before", "after"):
                    order = doc[j].text
                head = self._head(j + bool(order), allow_ing=True)
                if head and order and not (head.has_subject or head.form == "ing"):
                    head = None
                if head and current is None and self.preamble and not (head.has_subject or joints):
                    head = None  # "the right arm is raised" has no person to drop
                if head and (order or current is None or self._splits(current, head, joints)):
                    opens_with_before = order == "before" and current is None
                    current = self._start(head, before_last=is_reversed or (order == "after" and bool(self.clauses)))
                    is_reversed, i = opens_with_before, head.end
                    continue
                if "followed" in joints and j < len(doc):
                    current = Clause([], "", "finite")
                    self.clauses.append(current)
                    i = j
                    continue
            if word in ("before", "after"):
                head = self._head(i + 1, allow_ing=True)
                if head and (head.has_subject or head.form == "ing"):
                    current = self._start(head, before_last=word == "after" and bool(self.clauses))
                    i = head.end
                    continue
            if word in _SIMULTANEOUS:
                head = self._head(i + 1, allow_ing=True)
                if head and (head.form == "ing" or head.has_subject):
                    words = ["while", *head.words[:-1], self._gerund(head)]
                    if current is None:
                        self.preamble += words
                    else:
                        current.words += words
                        current.simultaneous = True
                    i = head.end
                    continue
            if self._is_unjoined(i, current):
                head = self._head(i, allow_ing=False)
                if head:
                    # a subject that is not in the list of people
                    if any(child.dep_.startswith("nsubj") and child.left_edge.i == 0 for child in doc[i].children):
                        self.preamble.clear()
                    current = self._start(head)
                    i = head.end
                    continue
            if current is None:
                if (after_subject := self.skip_subject(i)) > i:
                    i = after_subject
                else:
                    self._append(self.preamble, doc[i])
                    i += 1
                continue
            if word in _SUBORDINATE or (word == "as" and i + 1 < len(doc)):
                current.subordinate = True
            elif word in _PAUSES or word == "and":
                current.subordinate = False
            if word == "to" and i + 1 < len(doc) and doc[i + 1].tag_ == "VB":
                current.infinitive = True
            self._append(current.words, doc[i])
            i += 1
        if self.clauses and self.preamble:
            self.clauses[0].words += self.preamble
        return self.clauses

    def _start(self, head: _Head, before_last: bool = False) -> Clause:
        clause = Clause(list(head.words), head.lemma, head.form, head.past)
        self.clauses.insert(len(self.clauses) - before_last, clause)
        return clause

    def _append(self, words: list[str], token: "Token") -> None:
        text = token.text
        if text in ".;!?:":
            text = ","
        if text == "," or text.startswith("'"):
            if words:
                words[-1] = words[-1].rstrip(",") + text
        else:
            words.append(text)

    def _skip_joints(self, i: int) -> tuple[int, set[str]]:
        doc, joints = self.doc, set()
        while i < len(doc):
            word, following = doc[i].text, doc[i + 1].text if i + 1 < len(doc) else ""
            if word == "after" and following in ("that", "this", "which"):
                joints.add("then")
                i += 2
            elif word == "followed":
                if following != "by":
                    break
                joints.add("followed")
                i += 2
            elif word == "next" and following == "to":
                break
            elif word in _SEQUENCE or word in _PAUSES:
                joints.add(word)
                i += 1
            else:
                break
        return i, joints

    def _splits(self, current: Clause, head: _Head, joints: set[str]) -> bool:
        """Whether a clause that could begin here is a new beat, or goes on with the current one."""
        if head.has_subject or joints - {",", "and", "&"}:
            return True
        if head.form == "ing":
            if current.form not in ("ing", "progressive") or current.simultaneous:
                return False
            return "and" in joints or self._is_list(head.end)
        if head.form == "base":
            return head.lemma in _MOTION_VERBS and not current.infinitive and current.form in ("finite", "base")
        return True

    def _is_list(self, i: int) -> bool:
        """Whether a later "and" or "then" joins another -ing form: "walking, turning and walking back"."""
        for k in range(i, len(self.doc) - 1):
            if self.doc[k].text in ("and", "then"):
                head = self._head(self._skip_joints(k)[0], allow_ing=True)
                if head and head.form == "ing":
                    return True
        return False

    def _is_unjoined(self, i: int, current: Clause | None) -> bool:
        """Whether a verb stands without a connector: "a man jumped forward turned around"."""
        token = self.doc[i]
        if current is None:
            if token.tag_ not in ("VBZ", "VBD", "VBP") or not self.preamble or self.preamble[0] == "while":
                return False
            return token.pos_ == "VERB" and not any(
                child.dep_.startswith("nsubj") and BODY_PART.search(child.text) for child in token.children
            )
        if current.subordinate or current.simultaneous or not current.words:
            return False
        if self.skip_subject(i) > i and self.doc[i - 1].pos_ not in ("ADP", "VERB", "DET", "SCONJ", "AUX", "NOUN"):
            head = self._head(i, allow_ing=False)
            return head is not None and head.form == "finite"
        if token.pos_ != "VERB" or not (token.tag_ == "VBZ" or (token.tag_ == "VBD" and current.past)):
            return False
        # in "waves with his hand makes a sign" the parser takes the hand, an object, for the subject
        subjects = [child for child in token.children if child.dep_.startswith("nsubj")]
        return all(
            child.left_edge.i > 0 and self.doc[child.left_edge.i - 1].pos_ in ("ADP", "VERB") for child in subjects
        )

    def skip_subject(self, i: int) -> int:
        """The index after "a person", "the old man", "he"; `i` where no such subject stands."""
        doc, k = self.doc, i
        if k < len(doc) and doc[k].text in _DETERMINERS:
            k += 1
        start = k
        while k < len(doc) and k - start < 4:
            if doc[k].text in _PEOPLE:
                if k + 1 < len(doc) and doc[k + 1].text in ("'s", "'"):
                    return i
                return k + 1
            if doc[k].pos_ not in ("ADJ", "NOUN", "PROPN", "VERB", "ADV") or (k == i and doc[k].tag_ in ("VBZ", "VBD")):
                return i
            if k == start == i and doc[k].pos_ in ("VERB", "ADV"):
                return i
            k += 1
        return i

    def _head(self, i: int, allow_ing: bool) -> _Head | None:
        """Read subject, adverbs, auxiliaries and the verb from `i` on; none if they do not stand there."""
        doc = self.doc
        k = self.skip_subject(i)
        has_subject = k > i
        adverbs: list[str] = []
        auxiliary = ""
        if has_subject and k < len(doc) and doc[k].text in _RELATIVES:
            k += 1
        while k < len(doc):
            token, word = doc[k], doc[k].text
            following = doc[k + 1] if k + 1 < len(doc) else None
            if word in ("then", "also", "just", "now") or (word == "," and adverbs):
                k += 1
            elif token.pos_ == "ADV" and (word.endswith("ly") or word in ("quickly", "slow", "fast", "twice")):
                adverbs.append(word)
                k += 1
            elif word in _AUXILIARIES and following is not None and self._is_auxiliary(k):
                auxiliary = token.lemma_ if word != "'s" else "be"
                k += 1
            elif self._lemma(k) in _STARTS and (skipped := self._skip_start(k)) > k:
                if not has_subject and not self._is_verb(k, has_subject):
                    return None
                auxiliary, k = "start", skipped
            else:
                break
        if k >= len(doc) or not self._is_verb(k, has_subject or bool(auxiliary)):
            return None
        token, lemma = doc[k], self._lemma(k)
        if token.text.endswith("ing") and lemma != token.text:
            form = "progressive" if auxiliary else "ing"
        elif (token.text == lemma and token.text not in ("put", "hit", "cut")) and not has_subject and not auxiliary:
            form = "base"
        else:
            form = "finite"
        if form == "ing" and not allow_ing:
            return None
        words = [*adverbs, lemma]
        if auxiliary == "be" and token.tag_ in ("VBN", "VBD") and token.text != lemma:
            words = ["be", *adverbs, token.text]
        past = token.tag_ in ("VBD", "VBN") and form == "finite"
        return _Head(words, lemma, form, k + 1, has_subject, past)

    def _is_auxiliary(self, k: int) -> bool:
        """Whether a verb follows "is", "has" or "does", so that they carry no meaning of their own."""
        doc = self.doc
        if doc[k].lemma_ == "do":
            return False  # "does arm stretches": the tagger takes nouns of motion for verbs
        wants = {"have": ("VBN",)}.get(doc[k].lemma_, ("VBG", "VBN", "VBD", "VB"))
        for token in doc[k + 1 : k + 4]:
            if token.tag_ in wants or (token.text in _AUXILIARIES and token.text not in ("has", "have", "had")):
                return True
            if token.text.endswith("ing") and token.pos_ != "ADP" and doc[k].lemma_ == "be":
                return True
            if token.pos_ != "ADV":
                return False
        return False

    def _skip_start(self, k: int) -> int:
        """The index of the verb after "starts to", "appears to be", "seen"; `k` where none follows."""
        doc, lemma, j = self.doc, self._lemma(k), k + 1
        has_to = j < len(doc) and doc[j].text == "to"
        if has_to:
            j += 1
        elif lemma in _NEEDS_TO and doc[k].text != "seen":
            return k
        if j < len(doc) and doc[j].text == "be" and j + 1 < len(doc) and doc[j + 1].text.endswith("ing"):
            j += 1
        if j >= len(doc):
            return k
        if has_to:
            return j if doc[j].pos_ in ("VERB", "AUX") or doc[j].text in _MOTION_VERBS else k
        return j if doc[j].text.endswith("ing") and self._lemma(j) != doc[j].text else k

    def _is_verb(self, k: int, expects_verb: bool) -> bool:
        token = self.doc[k]
        if token.pos_ in ("VERB", "AUX"):
            return token.text not in ("'s", "can", "will")
        if token.pos_ not in ("NOUN", "ADJ", "PROPN", "ADV", "ADP", "X"):
            return False
        lemma = self._lemma(k)
        if token.text.endswith("ing") and lemma != token.text:
            return lemma in _MOTION_VERBS or expects_verb
        if expects_verb:
            return bool(self._verb_lemmas(token.text)) and (token.text != lemma or lemma in _MOTION_VERBS)
        if lemma not in _MOTION_VERBS or token.text == lemma:
            return False
        return not (self.clauses and self.clauses[-1].lemma in _NOUN_VERBS)

    def _verb_lemmas(self, word: str) -> tuple[str, ...]:
        return self.lemminflect.getAllLemmas(word, upos="VERB").get("VERB", ())  # pyright: ignore[reportAttributeAccessIssue]

    def _lemma(self, k: int) -> str:
        token = self.doc[k]
        if token.pos_ in ("VERB", "AUX"):
            return "be" if token.text in ("'s", "is", "are") else token.lemma_
        lemmas = self._verb_lemmas(token.text)
        return lemmas[0] if lemmas else token.text

    def _gerund(self, head: _Head) -> str:
        if head.words[0] == "be":
            return "being " + head.words[-1]
        forms = self.lemminflect.getInflection(head.lemma, tag="VBG")  # pyright: ignore[reportAttributeAccessIssue]
        return forms[0] if forms else head.lemma
