import pytest
import torch

from python_core.vqvae import FRAMES_PER_CODE, Codebook, Vqvae, VqvaeShape

SHAPE = VqvaeShape(num_features=7, width=12, code_width=6, num_codes=11, dilations=(9, 3, 1))


@pytest.fixture
def vqvae() -> Vqvae:
    torch.manual_seed(3)
    model = Vqvae(SHAPE).eval()
    model.codebook.vectors.normal_()
    return model


@torch.no_grad()
def test_a_stream_decodes_to_what_the_whole_clip_decodes_to(vqvae: Vqvae):
    codes = torch.randint(SHAPE.num_codes, (2, 60))
    whole, whole_state = vqvae.decode(codes, vqvae.zero_state(2))
    for sizes in ([1] * 60, [7, 1, 30, 22], [59, 1]):
        state, parts = vqvae.zero_state(2), []
        for part in codes.split(sizes, dim=1):
            frames, state = vqvae.decode(part, state)
            parts.append(frames)
        assert torch.cat(parts, dim=1) == pytest.approx(whole.numpy(), abs=1e-5)
        assert state == pytest.approx(whole_state.numpy(), abs=1e-5)


@torch.no_grad()
def test_a_code_changes_no_frame_before_its_own(vqvae: Vqvae):
    codes = torch.randint(SHAPE.num_codes, (1, 20))
    other = codes.clone()
    other[0, 12] = (other[0, 12] + 1) % SHAPE.num_codes
    before, after = (vqvae.decode(c, vqvae.zero_state(1))[0] for c in (codes, other))
    first = 12 * FRAMES_PER_CODE
    assert torch.equal(before[:, :first], after[:, :first])
    assert (before[:, first : first + FRAMES_PER_CODE] - after[:, first : first + FRAMES_PER_CODE]).abs().max() > 1e-3


@torch.no_grad()
def test_frames_that_fill_no_code_are_dropped(vqvae: Vqvae):
    features = torch.randn(1, 23, SHAPE.num_features)
    assert torch.equal(vqvae.encode(features), vqvae.encode(features[:, :20]))
    assert vqvae.encode(features).shape == (1, 5)


def test_the_nearest_vector_is_the_code():
    codebook = Codebook(VqvaeShape(code_width=2, num_codes=3))
    codebook.vectors.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]))
    assert codebook.nearest(torch.tensor([[0.4, 0.1], [0.6, 0.1], [0.1, 1.2]])).tolist() == [0, 1, 2]


def test_a_vector_moves_to_the_mean_of_those_that_choose_it():
    codebook = Codebook(VqvaeShape(code_width=1, num_codes=2))
    codebook.start(torch.tensor([[0.0], [10.0]]))
    low = int(codebook.nearest(torch.tensor([[0.0]]))[0])
    for _ in range(2000):
        x = torch.tensor([[1.0], [3.0], [20.0]])
        codebook.update(x, codebook.nearest(x))
    assert codebook.vectors[low].item() == pytest.approx(2.0, abs=1e-3)
    assert codebook.vectors[1 - low].item() == pytest.approx(20.0, abs=1e-3)


def test_a_code_that_nobody_chooses_is_put_where_encoder_outputs_are():
    torch.manual_seed(0)
    codebook = Codebook(VqvaeShape(code_width=1, num_codes=2))
    codebook.start(torch.tensor([[0.0], [1000.0]]))
    x = torch.tensor([[0.0], [1.0], [2.0]])
    for _ in range(300):
        codebook.update(x, codebook.nearest(x))
    assert codebook.vectors.max() < 3
