"""Samples replies of a language model, many side by side, for rollouts and for evaluation.

Most of a reply's time goes into attention over what came before it and into the steps of a batch in which few replies
are left. So keys and values lie in buffers with room for more, and replies that have ended leave the batch. A token is
drawn from one uniform number; each place of the batch has its own, so that a reply does not depend on when others end.
A step writes one position, which is a token of text or all tokens of a code.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
from transformers.cache_utils import Cache, DynamicLayer
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from python_core.contract.vocabulary import Place
from python_core.motion_model import MotionOutput, fold
from python_core.processes import num_processes
from python_core.reply_mask import ReplyMask, ReplyRow
from python_core.token_draw import draw

ROOM = 64
"""Positions by which the buffers grow."""
LEAVE_TOGETHER = 8
"""Replies that have ended leave the batch when they are one in so many of it, since the others are copied then."""


class RoomyLayer(DynamicLayer):
    """Keys and values of a layer, views of buffers that have room for what comes next, [B, heads, N, width] each."""

    _rooms: tuple[Tensor, Tensor]
    _length = 0

    def update(
        self, key_states: Tensor, value_states: Tensor, cache_kwargs: dict[str, Any] | None = None
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states)
            self._rooms = (key_states[:, :, :0], value_states[:, :, :0])
        start, self._length = self._length, self._length + key_states.shape[2]
        if self._length > self._rooms[0].shape[2]:
            self._make_room(self._rooms[0][:, :, :start], self._rooms[1][:, :, :start])
        for room, states in zip(self._rooms, (key_states, value_states), strict=True):
            room[:, :, start : self._length] = states
        return self._show()

    def batch_select_indices(self, indices: Tensor) -> None:
        self._make_room(*(room[indices, :, : self._length] for room in self._rooms))
        self._show()

    def _make_room(self, keys: Tensor, values: Tensor) -> None:
        self._rooms = (_roomier(keys, self._length + ROOM), _roomier(values, self._length + ROOM))

    def _show(self) -> tuple[Tensor, Tensor]:
        self.keys, self.values = (room[:, :, : self._length] for room in self._rooms)
        return self.keys, self.values


def _roomier(states: Tensor, num: int) -> Tensor:
    room = states.new_empty((*states.shape[:2], num, states.shape[3]))
    room[:, :, : states.shape[2]] = states
    return room


@torch.no_grad()
def sample_replies(
    model: Any,
    prompts: Sequence[Sequence[int]],
    rows: Sequence[ReplyRow],
    num_positions: int,
    temperature: float,
    top_p: float = 1.0,
    depth_temperature: float = 1.0,
    reasoning_temperature: float = 1.0,
) -> None:
    """Let a language model that speaks motion write replies to encoded prompts; each row takes its own.

    The same batch gives the same replies from the same state of torch's random numbers. Where the weights are held in
    parts, processes go on until the last of them has ended.

    Args:
        model: A `SpeaksMotion`.
        prompts: Token ids of each.
        rows: A reply that has not begun for each prompt.
        num_positions: A reply is cut off after so many.
        temperature: Divides the logits; at 0 the likeliest tokens are taken.
        top_p: Of the first tokens of positions; see `draw`.
        depth_temperature: Of the levels of a code after its first, times `temperature`.
        reasoning_temperature: Of the reasoning, times `temperature`.
    """
    device, layout = model.device, rows[0].parser.layout
    longest = max(map(len, prompts))
    # Padded on the left, so that all replies begin in one column.
    padded = [[layout.turn_end] * (longest - len(prompt)) + [*prompt] for prompt in prompts]
    ids = fold(torch.tensor(padded, device=device), layout.first_code, layout.codebook).input_ids
    starts = torch.tensor([longest - len(prompt) for prompt in prompts], device=device)
    attended = torch.arange(longest + num_positions, device=device) >= starts[:, None]
    positions = (torch.arange(longest, device=device) - starts[:, None]).clamp(min=0)
    cache, mask, together = Cache(layer_class_to_replicate=RoomyLayer), ReplyMask(), _steps_together(model)
    places = [*range(len(rows))]
    for length in range(longest, longest + num_positions):
        output = model(
            input_ids=ids,
            attention_mask=attended[:, :length],
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        chances = torch.rand(len(rows), layout.num_levels, device=device)[places]
        of_batch = [rows[place] for place in places]
        times = [reasoning_temperature if row.parser.place is Place.REASONING else 1.0 for row in of_batch]
        temperatures = temperature * torch.tensor(times, device=device)
        ids = _write_position(model, output, of_batch, mask, chances, temperatures, top_p, depth_temperature)
        going_on = [number for number, row in enumerate(of_batch) if not row.ended]
        if not (_any(bool(going_on), device) if together else going_on):
            return
        # With the last one of a process, which others wait for, it goes on as well.
        left = going_on or [0]
        positions = positions[:, -1:] + 1
        if len(left) * LEAVE_TOGETHER <= len(places) * (LEAVE_TOGETHER - 1):
            chosen = torch.tensor(left, device=device)
            cache.batch_select_indices(chosen)
            ids, positions, attended = ids[chosen], positions[chosen], attended[chosen]
            places = [places[number] for number in left]


def _write_position(
    model: Any,
    output: MotionOutput,
    rows: Sequence[ReplyRow],
    mask: ReplyMask,
    chances: Tensor,
    temperatures: Tensor,
    top_p: float,
    depth_temperature: float,
) -> Tensor:
    """Draw the tokens of each row's next position, let the rows take them, and give them to be read, [B, 1, levels].

    Args:
        model: Has the depth head.
        output: What it says of these rows.
        rows: Of the batch.
        mask: Takes first tokens out of the choice.
        chances: Of each row and level, [B, levels].
        temperatures: Of each row, [B]; divide the logits.
        top_p: Of the first tokens; see `draw`.
        depth_temperature: Of the later levels, times the row's own.
    """
    assert output.logits is not None
    assert output.states is not None
    layout = rows[0].parser.layout
    masked, forced = mask(rows, output.logits[:, -1].float())
    drawn = draw(_tempered(masked, temperatures), chances[:, 0], top_p)
    ids = drawn.new_full((len(rows), 1, layout.num_levels), -1)
    ids[:, 0, 0] = drawn
    speaking = []
    for number, (row, token_id, only) in enumerate(zip(rows, drawn.tolist(), forced, strict=True)):
        if not row.ended:
            row.take(token_id, only)
            # A code that breaks the grammar ends the reply.
            if layout.is_of_code(token_id) and not row.over:
                speaking.append(number)
    if layout.num_levels == 1 or not speaking:
        return ids
    chosen = torch.tensor(speaking, device=ids.device)
    states, entries = output.states[chosen, -1], drawn[chosen, None] - layout.first_code
    for level in range(1, layout.num_levels):
        logits = model.depth_head(states, entries, last=True)[:, 0].float()
        found = draw(_tempered(logits, depth_temperature * temperatures[chosen]), chances[chosen, level])
        first_id = layout.first_code + level * layout.level_size
        for place, number in enumerate(speaking):
            if (only := rows[number].only()) is not None:
                found[place] = only - first_id
            rows[number].take(int(found[place]) + first_id, only is not None)
        ids[chosen, 0, level] = found + first_id
        entries = torch.cat([entries, found[:, None]], dim=1)
    return ids


def _tempered(logits: Tensor, temperatures: Tensor) -> Tensor:
    """Logits at the temperature of each row, [B, V] and [B] -> [B, V]; at 0 the likeliest alone is left."""
    cold = temperatures == 0
    found = logits / temperatures.masked_fill(cold, 1.0)[:, None]
    if cold.any():
        others = torch.ones_like(found, dtype=torch.bool).scatter_(-1, found.argmax(dim=-1, keepdim=True), False)
        found = found.masked_fill(others & cold[:, None], float("-inf"))
    return found


def _steps_together(model: torch.nn.Module) -> bool:
    """Whether each step of one process needs the others, since each holds a part of the weights."""
    if num_processes() == 1:
        return False
    in_parts = any(isinstance(module, FullyShardedDataParallel | FSDPModule) for module in model.modules())
    return in_parts or is_deepspeed_zero3_enabled()


def _any(mine: bool, device: torch.device) -> bool:
    found = torch.tensor(int(mine), device=device)
    torch.distributed.all_reduce(found)
    return bool(found)
