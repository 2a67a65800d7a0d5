from python_core.evaluators.word_tags import TAGS, WordTagger


def test_words_are_tagged_as_in_published_text_files():
    tagger = WordTagger()
    (tagged,) = tagger.tag(["A person walks forward slowly, then sat on 2 chairs with their left hand."])
    assert [(word.word, word.tag) for word in tagged] == [
        ("a", "DET"),
        ("person", "NOUN"),
        ("walk", "Act"),
        ("forward", "Loc"),
        ("slowly", "Desc"),
        ("then", "ADV"),
        ("sit", "Act"),
        ("on", "ADP"),
        ("chair", "Obj"),
        ("with", "ADP"),
        ("their", "PRON"),
        ("left", "Loc"),
        ("hand", "Body"),
    ]


def test_every_tag_is_known_and_a_caption_without_words_has_none():
    tagger = WordTagger()
    tagged = tagger.tag(["wow, the T-pose!", "", "1 2 3 ...", "a person and another one jump-kick"])
    assert [len(words) for words in tagged] == [3, 0, 0, 6]
    assert {word.tag for words in tagged for word in words} <= set(TAGS)
    assert len(TAGS) == 15
