"""A causal language model for which a code is one position, however many levels it has.

Outside, a reply is tokens, one for each level of each code. Here they are folded: the tokens of a code are read
together, as the sum of their embeddings, and spoken from one state, the first by the model's own head and the others by
a depth head. So the model takes a step for a code and not for each of its levels.

What is read may be the first levels alone, `read_levels`. By later ones a model knows, by heart, where in which clip it
is; those that it draws itself never say so again, and it is lost among its own.
"""

from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, PreTrainedModel
from transformers.utils.generic import ModelOutput

from python_core.contract.vocabulary import CodebookSize, TokenLayout
from python_core.depth_head import DepthHead, DepthHeadShape

IGNORED = -100
"""Label of a token that is not scored."""
IMPOSSIBLE = -1e9
"""Logit of a token that cannot come next because it is of another level."""
CONFIG_FIELD = "motion_codes"
"""Of the model's config: how it speaks codes."""


@dataclass
class MotionOutput(ModelOutput):
    """What the model says; None where it was not asked."""

    loss: Tensor | None = None
    """Mean negative log-probability of the labels, each times its weight."""
    hits: Tensor | None = None
    """Which labels were the likeliest token, 1 or 0, IGNORED where none is scored; a label's place is its token's,
    [B, L].
    """
    log_probs: Tensor | None = None
    """Of the labels, 0 where none is scored, [B, L]."""
    entropy: Tensor | None = None
    """Of the choices that labels were, [B, L]."""
    logits: Tensor | None = None
    """Of the token after each one, [B, L, V]; with folded inputs, of the next position's first token, [B, 1, V']."""
    states: Tensor | None = None
    """From which a depth head goes on, with folded inputs, [B, 1, width]."""


@dataclass(frozen=True, eq=False)
class Folded:
    """Tokens by position."""

    input_ids: Tensor
    """-1 where a position has no token of a level, [B, P, levels]."""
    places: Tensor
    """Position of each token, [B, L]."""
    levels: Tensor
    """Level of each token, 0 for those that are of no code, [B, L]."""
    attention_mask: Tensor | None
    position_ids: Tensor | None
    """[B, P] both."""


def fold(
    token_ids: Tensor,
    first_code: int,
    codebook: CodebookSize,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
) -> Folded:
    """Put the tokens of each code at one position.

    Args:
        token_ids: [B, L]
        first_code: Id of the first token of codes.
        codebook: How many follow, level after level.
        attention_mask: 0 for tokens that are padding, [B, L].
        position_ids: Places of the tokens in their samples, of which several may be in a row, [B, L].
    """
    offsets = token_ids - first_code
    of_code = (offsets >= 0) & (offsets < codebook.num_tokens)
    levels = torch.where(of_code, offsets // codebook.level_size, 0)
    begins = levels == 0
    places = begins.cumsum(dim=1) - 1
    rows = torch.arange(len(token_ids), device=token_ids.device)[:, None].expand_as(token_ids)
    size = (len(token_ids), int(places.max()) + 1)
    folded = token_ids.new_full((*size, codebook.num_levels), -1)
    folded[rows, places, levels] = token_ids
    mask = positions = None
    if attention_mask is not None:
        mask = attention_mask.new_zeros(size)
        mask[rows, places] = attention_mask
    if position_ids is not None:
        # A sample begins at its position 0.
        starts = torch.where(position_ids == 0, places, 0).cummax(dim=1).values
        positions = position_ids.new_zeros(size)
        positions[rows, places] = places - starts
    return Folded(folded, places, levels, mask, positions)


class SpeaksMotion(PreTrainedModel):
    """What `motion_class` adds to a causal language model of transformers."""

    accepts_loss_kwargs = True
    """For `Trainer`: `num_items_in_batch` is read."""

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self._add_depth_head()

    def _add_depth_head(self) -> None:
        if (shape := self.config.motion_codes["depth_head"]) is not None:
            self.depth_head = DepthHead(self.config.hidden_size, self.codebook, DepthHeadShape(**shape))

    @property
    def codebook(self) -> CodebookSize:
        """Whose codes it speaks."""
        codes = self.config.motion_codes
        return CodebookSize(codes["level_size"], codes["num_levels"])

    @property
    def num_spoken(self) -> int:
        """Tokens that the model's own head speaks: all but those of later levels, which come last."""
        return self.config.motion_codes["first_code"] + self.codebook.level_size

    @property
    def read_levels(self) -> int:
        """How many levels of a code it reads, from the first; models of before it was written down read all."""
        return self.config.motion_codes.get("read_levels", self.codebook.num_levels)

    @torch.no_grad()
    def read_first_levels(self, num: int) -> None:
        """Let it read so many levels from now on. Rows of the others become 0 and stay so, so that who adds up all
        tokens of a code, as exported graphs do, reads the same.

        Raises:
            ValueError: Fewer than one or more than there are.
        """
        codebook, first_code = self.codebook, self.config.motion_codes["first_code"]
        if not 1 <= num <= codebook.num_levels:
            raise ValueError(f"read_levels goes from 1 to the {codebook.num_levels} levels of a code, got {num}")
        self.config.motion_codes["read_levels"] = num
        unread = slice(first_code + num * codebook.level_size, first_code + codebook.num_tokens)
        self.get_input_embeddings().get_parameter("weight")[unread] = 0

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        labels: Tensor | None = None,
        weights: Tensor | None = None,
        read_ids: Tensor | None = None,
        temperature: float = 1.0,
        scores: bool = False,
        entropies: bool = False,
        num_items_in_batch: Tensor | int | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        **empty: None,
    ) -> MotionOutput:
        """Read tokens, and score those that are labels or say what comes next.

        Args:
            input_ids: Tokens, [B, L]; or tokens by position, as `Folded` has them, [B, P, levels].
            attention_mask: 0 for what is padding, [B, L] or [B, past + P].
            position_ids: [B, L] or [B, P].
            labels: The same tokens, IGNORED where one is not scored, [B, L].
            weights: How much each label counts in the loss, [B, L]; None counts all alike.
            read_ids: The same tokens with other codes here and there, which are read instead, [B, L].
            temperature: Divides all logits of what is scored.
            scores: Give `log_probs`.
            entropies: Give `entropy`, to be looked at: nothing is learned through it.
            num_items_in_batch: Labels by whose number the loss is divided, if not by its own.
            past_key_values: Cache of what was read before, with folded tokens.
            use_cache: Whether to keep what is read.
            empty: What wrappers hand on unasked.
        """
        assert all(value is None for value in empty.values()), f"a model of motion takes no {[*empty]}"
        if input_ids.ndim == 3:
            states = self._states(input_ids, attention_mask, position_ids, past_key_values, use_cache)[:, -1:]
            return MotionOutput(logits=self._first_logits(states), states=states)
        folded = fold(input_ids, self.config.motion_codes["first_code"], self.codebook, attention_mask, position_ids)
        read = folded.input_ids
        if read_ids is not None:
            read = fold(read_ids, self.config.motion_codes["first_code"], self.codebook).input_ids
        states = self._states(read, folded.attention_mask, folded.position_ids, None, use_cache)
        if labels is None:
            return MotionOutput(logits=self._next_logits(folded, states, input_ids))
        return self._score(folded, states, labels, weights, temperature, scores, entropies, num_items_in_batch)

    def _states(self, input_ids: Tensor, mask: Tensor | None, positions: Tensor | None, cache: Any, use: Any) -> Tensor:
        """Of each position, [B, P, width]."""
        input_ids = input_ids[..., : self.read_levels]
        embedded = self.get_input_embeddings()(input_ids.clamp(min=0)) * (input_ids >= 0)[..., None]
        return self.base_model(
            inputs_embeds=embedded.sum(dim=2),
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=use,
        ).last_hidden_state

    def _first_logits(self, states: Tensor) -> Tensor:
        head: Any = self.get_output_embeddings()
        return nn.functional.linear(states, head.weight[: self.num_spoken])

    def _depth_logits(self, folded: Folded, states: Tensor, rows: Tensor, places: Tensor) -> Tensor:
        """Of the levels after the first of codes at these places, [N, levels - 1, level size]."""
        size = self.codebook.level_size
        starts = self.config.motion_codes["first_code"] + torch.arange(self.codebook.num_levels) * size
        entries = (folded.input_ids[rows, places] - starts.to(states.device)).clamp(min=0)[:, :-1]
        return self.depth_head(states[rows, places - 1], entries)

    def _score(
        self,
        folded: Folded,
        states: Tensor,
        labels: Tensor,
        weights: Tensor | None,
        temperature: float,
        scores: bool,
        entropies: bool,
        num_items: Any,
    ) -> MotionOutput:
        labels = labels.clone()
        labels[:, 0] = IGNORED  # Nothing foretells the first.
        scored = labels != IGNORED
        log_probs = states.new_zeros(labels.shape, dtype=torch.float32)
        entropy = torch.zeros_like(log_probs) if entropies else None
        hits = None if self.training or scores else torch.full_like(labels, IGNORED)

        def fill(where: tuple[Tensor, Tensor], logits: Tensor, first_id: Tensor | int) -> None:
            """Score the labels at these tokens, each from its logits."""
            targets = labels[where] - first_id
            choices = (logits.float() / temperature).log_softmax(dim=-1)
            log_probs[where] = choices.gather(-1, targets[:, None])[:, 0]
            if entropy is not None:
                spread = choices.detach()
                entropy[where] = -(spread.exp() * spread).sum(dim=-1)
            if hits is not None:
                hits[where] = (choices.argmax(dim=-1) == targets).long()

        rows, tokens = torch.nonzero(scored & (folded.levels == 0), as_tuple=True)
        fill((rows, tokens), self._first_logits(states[rows, folded.places[rows, tokens] - 1]), 0)
        rows, tokens = torch.nonzero(scored & (folded.levels > 0), as_tuple=True)
        if len(rows):
            # Of each code once: its levels are spoken from one state.
            num_places = folded.input_ids.shape[1]
            codes, of_code = torch.unique(rows * num_places + folded.places[rows, tokens], return_inverse=True)
            logits = self._depth_logits(folded, states, codes // num_places, codes % num_places)
            levels = folded.levels[rows, tokens]
            first_ids = self.config.motion_codes["first_code"] + levels * self.codebook.level_size
            fill((rows, tokens), logits[of_code, levels - 1], first_ids)
        weighted = log_probs if weights is None else log_probs * weights
        loss = -weighted.sum() / (scored.sum().clamp(min=1) if num_items is None else num_items)
        return MotionOutput(loss=loss, hits=hits, log_probs=log_probs if scores else None, entropy=entropy)

    def _next_logits(self, folded: Folded, states: Tensor, input_ids: Tensor) -> Tensor:
        """Of the token after each one, [B, L, V]."""
        codebook, first_code = self.codebook, self.config.motion_codes["first_code"]
        size = first_code + codebook.num_tokens
        logits = states.new_full((*input_ids.shape, size), IMPOSSIBLE)
        offsets = input_ids - first_code
        of_code = (offsets >= 0) & (offsets < codebook.num_tokens)
        last = ~of_code | (folded.levels == codebook.num_levels - 1)
        rows, tokens = torch.nonzero(last, as_tuple=True)
        logits[rows, tokens, : self.num_spoken] = self._first_logits(states[rows, folded.places[rows, tokens]])
        for level in range(codebook.num_levels - 1):
            rows, tokens = torch.nonzero(of_code & (folded.levels == level), as_tuple=True)
            if len(rows):
                found = self._depth_logits(folded, states, rows, folded.places[rows, tokens])[:, level]
                start = first_code + (level + 1) * codebook.level_size
                logits[rows, tokens, start : start + codebook.level_size] = found
        return logits


@cache
def motion_class(base: type[PreTrainedModel]) -> type[SpeaksMotion]:
    """A causal language model's class with `SpeaksMotion` before it; it is saved under its own name."""
    return type(base.__name__, (SpeaksMotion, base), {"__module__": base.__module__})


def speak_motion(model: PreTrainedModel, layout: TokenLayout, shape: DepthHeadShape) -> SpeaksMotion:
    """Let a model that has rows for motion tokens speak codes; it is changed in place.

    Args:
        model: Of transformers.
        layout: Its tokens; those of codes are the last ones.
        shape: Of the depth head, which codes of several levels need.
    """
    assert layout.first_code + layout.codebook.num_tokens == layout.vocabulary_size, "the tokens of codes are the last"
    model.config.motion_codes = {
        "first_code": layout.first_code,
        "level_size": layout.level_size,
        "num_levels": layout.num_levels,
        "depth_head": asdict(shape) if layout.num_levels > 1 else None,
    }
    model.__class__ = motion_class(type(model))
    assert isinstance(model, SpeaksMotion)
    model._add_depth_head()
    return model


def load_motion_model(folder: Path) -> SpeaksMotion:
    """Read what `save_pretrained` of such a model wrote, in float32 and evaluation mode.

    Raises:
        ValueError: The model there speaks no codes, lacks weights, or they are damaged.
    """
    config = AutoConfig.from_pretrained(folder)
    if not hasattr(config, CONFIG_FIELD):
        raise ValueError(f"{folder / 'config.json'}: no {CONFIG_FIELD}, so no model of train-sft or train-grpo")
    base = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    # With `output_loading_info` it gives two things, which its types do not say.
    kind: Any = motion_class(base)
    try:
        model, found = kind.from_pretrained(folder, config=config, dtype=torch.float32, output_loading_info=True)
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(
            f"{folder}: weights are damaged, or of another model than config.json says ({error}); copy it again"
        ) from error
    # transformers would draw them at random.
    if missing := sorted(found["missing_keys"]):
        raise ValueError(f"{folder}: lacks {len(missing)} weights, {missing[0]} first; copy the whole checkpoint again")
    return model.eval()
