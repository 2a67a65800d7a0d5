"""TRL's `GRPOTrainer` for models that speak codes of several levels.

TRL scores replies by the model's head alone, and takes the model that replies must not run away from by its name from
transformers, which knows no depth head. Here both are the model's own.

Seen with trl 1.16.0.
"""

import copy
from typing import Any

import torch
from torch import Tensor
from trl.models.utils import prepare_deepspeed, prepare_fsdp
from trl.trainer.grpo_trainer import GRPOTrainer

from python_core.contract.vocabulary import TokenLayout
from python_core.motion_model import IGNORED, SpeaksMotion


class ReplyTrainer(GRPOTrainer):
    """Learns from rewards of replies.

    Args:
        model: What is trained: a `SpeaksMotion`, or one with an adapter.
        args: As TRL's, with a `beta` of 0.
        beta: Weight of the divergence from the model as it is now.
        layout: Where the tokens of replies are.
        learned_levels: Levels of a code that learn, from the first on.
        kwargs: As TRL's.
    """

    def __init__(
        self, model: Any, args: Any, beta: float, layout: TokenLayout, learned_levels: int, **kwargs: Any
    ) -> None:
        assert args.beta == 0, "TRL would make a reference of its own"
        reference = None
        if beta and isinstance(model, SpeaksMotion):
            reference = copy.deepcopy(model).eval().requires_grad_(False)
        if learned_levels == 1:
            # It would get no gradient, for which DDP waits.
            for name, parameter in model.named_parameters():
                if "depth_head" in name:
                    parameter.requires_grad_(False)
        super().__init__(model=model, args=args, **kwargs)
        # With an adapter, TRL takes the model without it.
        self.beta = beta
        self.first_unlearned = layout.first_code + learned_levels * layout.level_size
        if reference is not None:
            if self.is_deepspeed_enabled:
                self.ref_model = prepare_deepspeed(reference, self.accelerator)
            elif self.is_fsdp_enabled:
                self.ref_model = prepare_fsdp(reference, self.accelerator)
            else:
                self.ref_model = self.accelerator.prepare_model(reference, evaluation_mode=True)

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **others: Any,
    ) -> tuple[Tensor, Tensor | None, None]:
        """Log-probabilities and entropies of the last tokens, [B, logits_to_keep]; 0 where one is padding or does not
        learn.
        """
        labels = input_ids.masked_fill((attention_mask == 0) | (input_ids >= self.first_unlearned), IGNORED)
        labels[:, :-logits_to_keep] = IGNORED
        found = []
        size = batch_size or len(input_ids)
        for first in range(0, len(input_ids), size):
            part = slice(first, first + size)
            with self.accelerator.autocast():
                found.append(
                    model(
                        input_ids=input_ids[part],
                        attention_mask=attention_mask[part],
                        labels=labels[part],
                        temperature=self.temperature,
                        scores=True,
                        entropies=compute_entropy,
                        use_cache=False,
                    )
                )
        log_probs = torch.cat([output.log_probs for output in found])[:, -logits_to_keep:]
        entropy = torch.cat([output.entropy for output in found])[:, -logits_to_keep:] if compute_entropy else None
        return log_probs, entropy, None
