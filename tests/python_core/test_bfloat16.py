import logging

import pytest
import torch

from python_core import bfloat16
from python_core.bfloat16 import warn_where_slow


@pytest.mark.parametrize(("bf16_s", "says"), [(0.4, "bfloat16 is 4 times slower than float32"), (0.1, "")])
def test_a_cpu_that_is_slow_at_it_is_told_of(
    bf16_s: float, says: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(bfloat16, "_seconds", {torch.bfloat16: bf16_s, torch.float32: 0.1}.__getitem__)
    with caplog.at_level(logging.WARNING):
        warn_where_slow(True)
        assert caplog.text.count("slower") == bool(says)
        assert says in caplog.text
        caplog.clear()
        warn_where_slow(False)
    assert not caplog.records


def test_products_take_time():
    assert 0 < bfloat16._seconds(torch.float32) < 1
