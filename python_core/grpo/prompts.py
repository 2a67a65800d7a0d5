"""Captions that are asked for replies, and whether a model has room for both."""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedModel

from python_core.clips.prepared import PreparedClips
from python_core.contract.plan import parse_plan
from python_core.reply_mask import longest_reply
from python_core.stages.build_reasoning import PlanRecord
from python_core.vqvae import FRAMES_PER_CODE


def read_prompts(prepared: PreparedClips, plans: Sequence[PlanRecord], max_codes: int) -> list[dict[str, Any]]:
    """A row for each different caption of the train split: the caption, the first clip that it is of, and how many
    beats its plan has, the clip's own where that is known exactly. Clips of no code, or of too many, are left out as
    `train-sft` leaves them out.

    Raises:
        ValueError: A caption has no plan, or there is none.
    """
    planned = {(record.clip_id, record.caption): record.plan for record in plans}
    rows: dict[str, dict[str, Any]] = {}
    for clip in prepared.split("train"):
        if not 1 <= clip.num_rows // FRAMES_PER_CODE <= max_codes:
            continue
        for caption in clip.captions:
            if caption in rows:
                continue
            plan = clip.plan or planned.get((clip.clip_id, caption))
            if plan is None:
                raise ValueError(f"clip {clip.clip_id}: no plan for {caption!r}; run build-reasoning again")
            num_beats = len(parse_plan(plan).beats)
            rows[caption] = {"prompt": caption, "clip_id": clip.clip_id, "num_beats": num_beats}
    if not rows:
        raise ValueError(
            f"no clip of split 'train' with 1 to {max_codes} codes has a caption, so there is nothing to ask; prepare "
            "clips that have some, or set max_codes"
        )
    return list(rows.values())


def check_room(model: PreTrainedModel, prompts: list[list[int]], max_codes: int) -> None:
    """Refuse prompts and replies that are longer than the model can read.

    Raises:
        ValueError: The longest prompt and the longest reply do not fit together.
    """
    room = getattr(model.config, "max_position_embeddings", None)
    prompt, reply = max(map(len, prompts)), longest_reply(max_codes)
    if room is not None and prompt + reply > room:
        raise ValueError(
            f"a prompt of {prompt} tokens and a reply of up to {reply} do not fit a model of {room}; "
            f"lower max_codes, now {max_codes}"
        )
