"""The one place that makes PEFT's trainable tokens and TRL's trainers fit each other.

With `trainable_token_indices` PEFT wraps embedding and head. TRL reads the head's `weight` and `bias` itself, to score
replies without all logits; the wrapper gives the merged weight, but knows no `bias`.

Seen with trl 1.16.0 and peft 0.21.2.
"""

from torch import nn


def show_head_bias(model: nn.Module) -> None:
    """Give each wrapper of trainable tokens the bias of the layer that it wraps; one that has a bias keeps it.

    The bias stays the wrapped layer's own parameter: it is neither trained nor saved twice, and the tie of embedding
    and head is not touched.
    """
    from peft.utils.other import TrainableTokensWrapper

    for module in model.modules():
        if isinstance(module, TrainableTokensWrapper):
            # Past nn.Module's own setter, which would register the parameter a second time.
            object.__setattr__(module, "bias", getattr(module.original_module, "bias", None))


def drop_reference_adapter(model: nn.Module) -> None:
    """Remove the copy of an adapter that TRL adds as its reference where it is given a model that has one.

    Our adapters are new, so the reference is the model without them, which TRL takes where there is no copy. A copy
    would be saved and loaded beside the adapter, and its trainable tokens are not the adapter's.
    """
    from peft import PeftModel

    if isinstance(model, PeftModel) and "ref" in model.peft_config:
        model.delete_adapter("ref")
