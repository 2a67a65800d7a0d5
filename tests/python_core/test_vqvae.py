import pytest
import torch

from python_core.vqvae import FRAMES_PER_CODE, Level, Vqvae, VqvaeShape

SHAPE = VqvaeShape(num_features=7, width=12, code_width=6, level_size=11, num_levels=2, dilations=(9, 3, 1))
NUM_CODES = SHAPE.codebook.num_codes


@pytest.fixture
def vqvae() -> Vqvae:
    torch.manual_seed(3)
    model = Vqvae(SHAPE).eval()
    for level in model.levels:
        level.get_buffer("vectors").normal_()
    return model


@torch.no_grad()
def test_a_stream_decodes_to_what_the_whole_clip_decodes_to(vqvae: Vqvae):
    codes = torch.randint(NUM_CODES, (2, 60))
    whole, whole_states = vqvae.decode(codes, vqvae.zero_states(2))
    for sizes in ([1] * 60, [7, 1, 30, 22], [59, 1]):
        states, parts = vqvae.zero_states(2), []
        for part in codes.split(sizes, dim=1):
            frames, states = vqvae.decode(part, states)
            parts.append(frames)
        assert torch.cat(parts, dim=1) == pytest.approx(whole.numpy(), abs=1e-5)
        for state, whole_state in zip(states, whole_states, strict=True):
            assert state == pytest.approx(whole_state.numpy(), abs=1e-5)


@torch.no_grad()
def test_a_code_changes_no_frame_before_its_own(vqvae: Vqvae):
    codes = torch.randint(NUM_CODES, (1, 20))
    other = codes.clone()
    other[0, 12] = (other[0, 12] + 1) % NUM_CODES
    before, after = (vqvae.decode(c, vqvae.zero_states(1))[0] for c in (codes, other))
    first = 12 * FRAMES_PER_CODE
    assert torch.equal(before[:, :first], after[:, :first])
    assert (before[:, first : first + FRAMES_PER_CODE] - after[:, first : first + FRAMES_PER_CODE]).abs().max() > 1e-3


def test_the_nearest_vector_is_the_code():
    level = Level(VqvaeShape(code_width=2, level_size=3))
    level.vectors.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]))
    assert level.nearest(torch.tensor([[0.4, 0.1], [0.6, 0.1], [0.1, 1.2]])).tolist() == [0, 1, 2]


def test_a_vector_moves_to_the_mean_of_those_that_choose_it():
    level = Level(VqvaeShape(code_width=1, level_size=2))
    level.start(torch.tensor([[0.0], [10.0]]), per_step=3)
    low = int(level.nearest(torch.tensor([[0.0]]))[0])
    for _ in range(2000):
        x = torch.tensor([[1.0], [3.0], [20.0]])
        level.update(x, torch.ones(len(x), dtype=torch.bool), level.nearest(x))
    assert level.vectors[low].item() == pytest.approx(2.0, abs=1e-3)
    assert level.vectors[1 - low].item() == pytest.approx(20.0, abs=1e-3)


def test_a_code_that_nobody_chooses_is_put_where_encoder_outputs_are():
    torch.manual_seed(0)
    level = Level(VqvaeShape(code_width=1, level_size=2))
    level.start(torch.tensor([[0.0], [1000.0]]), per_step=3)
    x = torch.tensor([[0.0], [1.0], [2.0]])
    for _ in range(600):
        level.update(x, torch.ones(len(x), dtype=torch.bool), level.nearest(x))
    assert level.vectors.max() < 3


@torch.no_grad()
def test_a_code_stands_for_the_sum_of_an_entry_of_each_level(vqvae: Vqvae):
    first, second = (level.get_buffer("vectors") for level in vqvae.levels)
    codes = torch.tensor([[0, 10, 11, 120]])
    expected = torch.stack([first[0] + second[0], first[10] + second[0], first[0] + second[1], first[10] + second[10]])
    torch.testing.assert_close(vqvae.vectors(codes)[0], expected)


@torch.no_grad()
def test_what_codes_stand_for_is_coded_by_them_or_by_something_nearer(vqvae: Vqvae):
    x = torch.randn(1, 50, SHAPE.code_width)
    total, inputs, chosen = vqvae.quantize(x)
    torch.testing.assert_close(inputs[0], x)
    torch.testing.assert_close(inputs[1], x - vqvae.levels[0].get_buffer("vectors")[chosen[0]])
    one_level = (x - vqvae.levels[0].get_buffer("vectors")[chosen[0]]).norm()
    assert (x - total).norm() < one_level


@torch.no_grad()
def test_candidates_are_the_nearest_codes_in_order(vqvae: Vqvae):
    x = torch.randn(5, SHAPE.code_width)
    stands_for = vqvae.vectors(torch.arange(NUM_CODES))
    distances = torch.cdist(x, stands_for)
    codes, vectors = vqvae.candidates(x, 20, SHAPE.level_size)
    nearest_of_first = torch.cdist(x, vqvae.levels[0].get_buffer("vectors")).argsort(dim=1)
    for row in range(5):
        # A level passes on 20 beginnings, which are all that it has.
        assert codes[row].tolist() == distances[row].argsort()[:20].tolist()
        torch.testing.assert_close(vectors[row], stands_for[codes[row]])
    narrow, _ = vqvae.candidates(x, 1, 1)
    assert (narrow[:, 0] % SHAPE.level_size).tolist() == nearest_of_first[:, 0].tolist()


@torch.no_grad()
def test_it_begins_as_principal_components(vqvae: Vqvae):
    # Patches on a line: the first component takes all there is.
    direction = torch.randn(4 * 7)
    features = (torch.randn(6, 10, 1) * direction + 0.5).unflatten(2, (4, 7)).flatten(1, 2)
    vqvae.start(features, torch.ones(6, 10, dtype=torch.bool), torch.ones(7), per_step=10)
    encoded = vqvae.encoder(features).flatten(0, 1)
    spread = encoded.std(0)
    assert spread[0] > 1000 * spread[1:].max()
    assert encoded.mean(0).abs().max() < 1e-3


def test_commitment_pulls_the_encoder_to_its_entries_and_moves_no_entry(vqvae: Vqvae):
    x = torch.randn(2, 8, SHAPE.code_width, requires_grad=True)
    kept = torch.ones(2, 8, dtype=torch.bool)
    _, inputs, chosen = vqvae.quantize(x.detach())
    vqvae.commitment(x, kept, inputs, chosen).backward()
    first, second = (level.get_buffer("vectors") for level in vqvae.levels)
    pulls = (x - first[chosen[0]]) + (x - first[chosen[0]] - second[chosen[1]])
    assert x.grad is not None
    torch.testing.assert_close(x.grad, 2 * pulls.detach() / x.numel())
