import pytest
import torch

from python_core.contract.vocabulary import TokenLayout
from python_core.depth_head import DepthHeadShape
from python_core.language_model import LanguageModelShape, new_language_model
from python_core.motion_model import IGNORED, SpeaksMotion
from python_core.sft.packing import pack
from python_core.sft.samples import Sample, SampleWriter, TrainingSamples
from tests.python_core.sft.conftest import EXACT, GUESSED, ONE_BEAT


def test_what_fills_up_a_row_is_neither_read_nor_scored():
    samples = [Sample([4], [4], [2.0]), Sample([1, 2, 3], [IGNORED, 2, 3], read_ids=[1, 5, 3])]
    batch = pack(samples, num_rows=2, filler=9)
    assert batch["input_ids"].tolist() == [[1, 2, 3], [4, 9, 9]]
    assert batch["read_ids"].tolist() == [[1, 5, 3], [4, 9, 9]]
    assert batch["labels"].tolist() == [[IGNORED, 2, 3], [4, IGNORED, IGNORED]]
    assert batch["weights"].tolist() == [[1, 1, 1], [2, 1, 1]]
    assert batch["position_ids"].tolist() == [[0, 1, 2], [0, 0, 1]]


def test_positions_begin_anew_with_each_sample_of_a_row():
    samples = [Sample([token] * length, [token] * length) for token, length in ((1, 4), (2, 1), (3, 2), (4, 2))]
    batch = pack(samples, num_rows=2, filler=9)
    assert batch["input_ids"].tolist() == [[1, 1, 1, 1, 2], [3, 3, 4, 4, 9]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 0], [0, 1, 0, 1, 0]]


@pytest.fixture(params=["sdpa", "eager"])
def model(request: pytest.FixtureRequest, layout: TokenLayout) -> SpeaksMotion:
    """With the attention that a GPU trains with, and with a CPU's."""
    torch.manual_seed(2)
    shape = LanguageModelShape(width=32, layers=2, heads=2, feed_forward=48, max_tokens=256)
    model = new_language_model(shape, DepthHeadShape(width=16, layers=1, feed_forward=16), layout)
    model.set_attn_implementation(request.param)
    return model.eval()


@pytest.mark.parametrize("num_rows", [1, 3])
def test_packed_samples_have_the_losses_and_gradients_that_they_have_alone(
    num_rows: int, writer: SampleWriter, model: SpeaksMotion, layout: TokenLayout
):
    drawn = TrainingSamples(writer, [ONE_BEAT, EXACT, GUESSED], batch=8, batches=1, steps=5, seed=1)
    samples = [drawn[index] for index in range(16, 24)]
    scored = [sum(label != IGNORED for label in sample.labels) for sample in samples]

    alone = torch.stack([model(**pack([sample], 1, layout.turn_end)).loss for sample in samples])
    expected = (alone * torch.tensor(scored)).sum() / sum(scored)
    expected.backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()

    loss = model(**pack(samples, num_rows, layout.turn_end)).loss
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    found = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert len(found) == len(gradients)
    for gradient, wanted in zip(found, gradients, strict=True):
        assert torch.allclose(gradient, wanted, atol=1e-6)


def test_a_sample_reads_nothing_of_its_neighbours(model: SpeaksMotion, layout: TokenLayout):
    codes = [token_id for code in (1, 2) for token_id in layout.code_ids(code)]
    first, second, other = [5, 6, *codes, 8], [9, *codes, 11], [8, *codes, 8, 8]

    @torch.no_grad()
    def read(*samples: list[int]) -> torch.Tensor:
        packed = pack([Sample(ids, ids) for ids in samples], 1, 3)
        del packed["labels"]
        return model(**packed).logits[0, -len(second) :]

    alone = read(second)
    assert torch.allclose(read(first, second), alone, atol=1e-6)
    assert torch.allclose(read(other, second), alone, atol=1e-6)
