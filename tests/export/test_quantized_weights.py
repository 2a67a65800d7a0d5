import numpy as np
import pytest
import torch

from export.quantized_weights import Scheme, quantize, search_scales


def scheme(bits: int = 4, block_size: int = 16, compensated: bool = False) -> Scheme:
    return Scheme(bits=bits, block_size=block_size, compensated=compensated)


def test_weights_on_the_grid_come_back_exactly():
    integers = torch.arange(-8, 8).float().repeat(3, 1)
    weights = integers * torch.tensor([[0.5], [-2.0], [0.125]])
    found = quantize(weights, None, scheme())
    assert torch.equal(found.values(16), weights)


def test_two_integers_share_a_byte_and_the_first_is_the_lower_half():
    weights = torch.tensor([[-8.0, -7, 0, 7] * 4])
    found = quantize(weights, None, scheme())
    assert found.scales.item() == pytest.approx(1)
    assert found.packed(4)[0, 0, :2].tolist() == [0x10, 0xF8]


def test_the_last_block_is_filled_up_and_cut_off_again():
    weights = torch.randn(4, 20, generator=torch.Generator().manual_seed(0))
    found = quantize(weights, None, scheme(bits=8))
    assert found.packed(8).shape == (4, 2, 16)
    assert found.values(20).shape == (4, 20)
    assert (found.values(20) - weights).abs().max() <= weights.abs().max() / 127


def test_zeros_stay_zeros():
    for compensated in (False, True):
        found = quantize(torch.zeros(2, 32), torch.eye(32), scheme(compensated=compensated))
        assert torch.equal(found.values(32), torch.zeros(2, 32))
        assert torch.isfinite(found.scales).all()


def test_inputs_that_are_large_count_for_more():
    generator = torch.Generator().manual_seed(1)
    blocks = torch.randn(64, 1, 16, generator=generator)
    importance = torch.ones(1, 16)
    importance[0, :2] = 100
    errors = []
    for weighting in (torch.ones(1, 16), importance):
        scales = search_scales(blocks, weighting, 8)[..., None]
        rounded = (blocks / scales).round().clamp(-8, 7) * scales
        errors.append(float((importance * (rounded - blocks) ** 2).sum()))
    assert errors[1] < 0.9 * errors[0]


@pytest.mark.parametrize("block_size", [16, 32])
def test_compensation_changes_outputs_less_where_inputs_go_together(block_size: int):
    generator = torch.Generator().manual_seed(2)
    mixed = torch.randn(64, 64, generator=generator)
    inputs = torch.randn(2000, 8, generator=generator) @ mixed[:8] + 0.1 * torch.randn(2000, 64, generator=generator)
    weights = torch.randn(48, 64, generator=generator)
    gram = inputs.T @ inputs
    searched, compensated = (
        float(((inputs @ (quantize(weights, gram, scheme(4, block_size, how)).values(64) - weights).T) ** 2).mean())
        for how in (False, True)
    )
    assert compensated < 0.5 * searched


def test_eight_bits_are_sixteen_times_as_fine():
    weights = torch.randn(32, 64, generator=torch.Generator().manual_seed(3))
    errors = [float((quantize(weights, None, scheme(bits)).values(64) - weights).abs().mean()) for bits in (8, 4)]
    assert np.log2(errors[1] / errors[0]) == pytest.approx(4, abs=0.3)
