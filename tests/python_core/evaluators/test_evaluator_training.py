import dataclasses
import logging
from pathlib import Path

import pytest
import torch

from python_core.clips.prepared import COMPOSED, read_prepared
from python_core.evaluators.evaluator import JudgeShape
from python_core.evaluators.evaluator_training import JudgeRun, JudgeTraining

SHAPE = JudgeShape(movement_width=8, motion_width=8, text_width=8, embedding_width=6, word_width=10, max_words=6)


def test_the_judge_learns_beats_and_says_which_captions_it_cuts(
    prepared_folder: Path, caplog: pytest.LogCaptureFixture
):
    torch.manual_seed(1)
    prepared = read_prepared(prepared_folder)
    clip = dataclasses.replace(
        prepared.clips[0],
        clip_id="J1+2@1.1",
        source=COMPOSED,
        captions=("a person strafes to the left and then bows deeply",),
        plan="1. strafe to the left, 1.6 s 2. salute, 1.4 s",
    )
    caplog.set_level(logging.WARNING)
    run = JudgeRun(JudgeTraining(shape=SHAPE, dropout=0.3), 10, prepared, [clip], None, torch.device("cpu"))
    # "salute" is a word of the plan alone.
    assert {"strafe", "salute", "bow"} <= {*run.model.vocabulary}
    assert caplog.messages == ["1 of 3 captions have more than 6 words; the judge does not read the rest"]
    captions = {pair.caption for _ in range(20) for pair in run.pairs.draw(3)}
    assert "a person salute" in captions
    assert run.model.text_encoder.dropout.p == run.model.motion_encoder.dropout.p == 0.3
