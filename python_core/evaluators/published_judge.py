"""Published weights of the judge, for users who have them, and word vectors from files.

    text_mot_match/model/finest.tar                 weights of the three encoders
    Comp_v6_KLD005/meta/mean.npy, std.npy           statistics, [263]; Comp_v6_KLD01 is read too
    glove/our_vab_data.npy, our_vab_words.pkl       word vectors [V, 300] and their words

That is the folder checkpoints/t2m of text-to-motion's code, with its folder glove put inside.

Numbers of this judge may stand beside published ones only on HumanML3D's own test clips.
"""

import io
import pickle
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from python_core.clips.prepared import PreparedClip
from python_core.contract.skeleton import BODY_22
from python_core.evaluators.evaluator import END, START, UNKNOWN, Judge, JudgeShape, check_clip
from python_core.evaluators.word_tags import TaggedWord, read_tagged
from python_core.features import (
    Normalizer,
    feature_slices,
    features_to_joints,
    num_features,
    origin,
    published_features,
)
from python_core.rotations import rotate, yaw_rotation

WEIGHTS = Path("text_mot_match/model/finest.tar")
STATISTICS = (Path("Comp_v6_KLD005/meta"), Path("Comp_v6_KLD01/meta"))
WORDS = Path("glove")
FRAME_RATE_HZ = 20.0
"""Of HumanML3D, which it learned from."""


class KnownWordsJudge(Judge):
    """A word without a vector has no part of speech either, as the published code reads it."""

    def tag(self, captions: Sequence[str]) -> list[tuple[TaggedWord, ...]]:
        known = {*self.vocabulary}
        return [
            tuple(word if word.word in known else TaggedWord(UNKNOWN, "OTHER") for word in words)
            for words in super().tag(captions)
        ]


class PublishedJudge:
    """An `Evaluator` with published weights, which sees features as HumanML3D's scripts write them."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge

    def know_words(self, clips: Sequence[PreparedClip]) -> int:
        """Take words and parts of speech of captions from their text files, as published; spaCy tags others, of which
        this is the number.
        """
        pairs = (pair for clip in clips for pair in zip(clip.captions, clip.tagged, strict=False))
        tagged = {caption: words for caption, words in pairs if words}
        self.judge.know_words({caption: read_tagged(words) for caption, words in tagged.items()})
        return len({caption for clip in clips for caption in clip.captions} - tagged.keys())

    def embed_texts(self, captions: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings of captions, [N, E]."""
        return self.judge.embed_texts(captions)

    def embed_motions(self, clips: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Embeddings of clips of exact features, [F, D] each -> [N, E].

        Raises:
            ValueError: A clip is shorter than 4 rows, of another width, or not finite.
        """
        return self.judge.embed_motions([as_published(clip) for clip in clips])

    def embed_pieces(
        self, clips: Sequence[NDArray[np.float32]], pieces: Sequence[tuple[int, int]]
    ) -> NDArray[np.float32]:
        """Embeddings of a piece of each clip, [N, E]; row 0 of published features differs from others, and a piece has
        it only where its clip begins.

        Args:
            clips: Whole clips of exact features, [F, D] each.
            pieces: First row of each piece and the one after its last.

        Raises:
            ValueError: A piece is shorter than 4 rows, or a clip of another width, or not finite.
        """
        cut = [as_published(clip)[first:end] for clip, (first, end) in zip(clips, pieces, strict=True)]
        return self.judge.embed_motions(cut)


def load_published_judge(folder: Path) -> PublishedJudge:
    """Read the published evaluator of HumanML3D.

    Raises:
        ValueError: A file is missing, damaged, or has other shapes than the published ones.
    """
    statistics = next((folder / name for name in STATISTICS if (folder / name / "mean.npy").is_file()), None)
    for path in (folder / WEIGHTS, folder / WORDS / "our_vab_words.pkl", folder / WORDS / "our_vab_data.npy"):
        if not path.is_file():
            raise ValueError(f"{path}: missing; the folder is checkpoints/t2m of text-to-motion, with glove inside")
    if statistics is None:
        raise ValueError(f"{folder / STATISTICS[0]}: missing; it holds mean.npy and std.npy of the evaluator")
    mean, std = (np.load(statistics / f"{name}.npy").astype(np.float32) for name in ("mean", "std"))
    width = num_features(BODY_22)
    if mean.shape != (width,) or std.shape != (width,):
        raise ValueError(f"{statistics}: expected mean and std of [{width}], got {mean.shape} and {std.shape}")
    words = _read_words(folder / WORDS / "our_vab_words.pkl")
    vectors = np.load(folder / WORDS / "our_vab_data.npy")
    shape = JudgeShape()
    if vectors.shape != (len(words), shape.word_width):
        raise ValueError(
            f"{folder / WORDS}: {len(words)} words, so expected vectors [{len(words)}, {shape.word_width}], got "
            f"{list(vectors.shape)}"
        )
    judge = KnownWordsJudge(shape, words, Normalizer(mean, std), train_words=False)
    judge.words.weight.data.copy_(torch.from_numpy(vectors.astype(np.float32)))
    path = folder / WEIGHTS
    try:
        weights: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        for name in ("movement_encoder", "motion_encoder", "text_encoder"):
            judge.get_submodule(name).load_state_dict(weights[name])
    except (RuntimeError, KeyError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path}: not the published evaluator ({error}); download it again") from error
    return PublishedJudge(judge.eval())


def read_word_vectors(path: Path, wanted: Collection[str], width: int) -> dict[str, NDArray[np.float32]]:
    """Vectors of the wanted words that a text file in GloVe's form has: a word and its numbers a line.

    Raises:
        ValueError: The file is missing, or its vectors have another width.
    """
    if not path.is_file():
        raise ValueError(f"{path}: missing; word_vectors is a file such as glove.6B.300d.txt")
    found: dict[str, NDArray[np.float32]] = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            word, _, numbers = line.rstrip().partition(" ")
            if word not in wanted:
                continue
            try:
                vector = np.array(numbers.split(), dtype=np.float32)
            except ValueError as error:
                raise ValueError(f"{path}:{number}: expected a word and {width} numbers ({error})") from error
            if vector.shape != (width,):
                raise ValueError(f"{path}:{number}: expected {width} numbers, got {len(vector)}")
            found[word] = vector
    return found


class _PlainUnpickler(pickle.Unpickler):
    """Reads lists, dicts, strings and numbers; a file that asks for more is not what it should be."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        raise pickle.UnpicklingError(f"asks for {module_name}.{global_name}")


def _read_words(path: Path) -> list[str]:
    try:
        words = _PlainUnpickler(io.BytesIO(path.read_bytes())).load()
    except (pickle.UnpicklingError, EOFError, ValueError, IndexError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: damaged ({error})") from error
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"{path}: expected a list of words, got {type(words).__name__}")
    if missing := {UNKNOWN, START, END} - set(words):
        raise ValueError(f"{path}: lacks the words {sorted(missing)}")
    return words


def as_published(clip: NDArray[np.float32]) -> NDArray[np.float32]:
    """Published features of F + 1 frames, [F, D] -> [F, D]."""
    check_clip(clip)
    features = torch.from_numpy(np.array(clip))[None]
    joints_m = features_to_joints(features, origin(1, features))[0][0]
    # The frame that the last row leads to. Velocities are in the heading of the row's own frame.
    slices = feature_slices(BODY_22)
    yaw = -2 * features[0, :-1, slices["root_yaw_velocity"]].sum()
    steps_m = features[0, -1, slices["joint_velocities"]].reshape(1, -1, 3)
    last_m = joints_m[-1:] + rotate(yaw_rotation(yaw), steps_m)
    return published_features(torch.cat([joints_m, last_m]).numpy())
