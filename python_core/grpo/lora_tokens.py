"""The one place that makes PEFT's adapters and TRL's trainers fit each other.

Seen with trl 1.16.0 and peft 0.21.2.
"""

from torch import nn


def drop_reference_adapter(model: nn.Module) -> None:
    """Remove the copy of an adapter that TRL adds as its reference where it is given a model that has one.

    Our adapters are new, so the reference is the model without them, which TRL takes where there is no copy. A copy
    would be saved and loaded beside the adapter, and its trainable tokens are not the adapter's.
    """
    from peft import PeftModel

    if isinstance(model, PeftModel) and "ref" in model.peft_config:
        model.delete_adapter("ref")
