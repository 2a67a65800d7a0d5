"""What processes make of a batch together is what one makes of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.multiprocessing.spawn import spawn

from python_core.clips.prepared import read_prepared
from python_core.contract.skeleton import BODY_22
from python_core.evaluators import evaluator_training
from python_core.evaluators.evaluator_training import JudgeRun, contrastive_losses
from python_core.features import Normalizer, num_features
from python_core.processes import (
    average_gradients,
    averaged,
    check_divides,
    gathered,
    own_share,
    share_out,
    summed,
    take_random_state_of_first,
    take_weights_of_first,
)
from python_core.reconstruction import Reconstruction
from python_core.stages.train_evaluator import PRESETS
from python_core.vqvae import Level, Vqvae, VqvaeShape

PAIRS = 5
"""Not a multiple of the processes, so that one row is taken twice and left out again."""


@pytest.mark.parametrize(("num", "num_processes"), [(8, 1), (129, 2), (7, 4), (3, 8)])
def test_each_process_takes_as_many_items_as_the_others_and_none_is_left(num: int, num_processes: int):
    shared_out = share_out(num, num_processes)
    assert len(shared_out) == num_processes
    assert len({len(places) for places in shared_out}) == 1
    assert {place for places in shared_out for place in places} == {*range(num)}


def gradients(result: dict[str, torch.Tensor]) -> None:
    """Of a loss in which each pair has all others as negatives."""
    torch.manual_seed(0)
    encoder = nn.Linear(3, 4)
    scale = nn.Parameter(torch.tensor(2.0))
    texts, motions = torch.randn(PAIRS, 3), torch.randn(PAIRS, 4)
    own = own_share(range(PAIRS))
    embedded = gathered(encoder(texts[own]), PAIRS)
    near, far = contrastive_losses(scale * embedded, gathered(motions[own], PAIRS), 10.0, all_negatives=True)
    (near + far).backward()
    average_gradients([*encoder.parameters(), scale])
    assert scale.grad is not None
    assert encoder.weight.grad is not None
    result |= {"loss": (near + far).detach(), "scale": scale.grad, "weight": encoder.weight.grad}


def codebook(result: dict[str, torch.Tensor]) -> None:
    """After two steps, in the first of which entries are put on inputs that nobody chose."""
    torch.manual_seed(0)
    level = Level(VqvaeShape(width=8, code_width=4, level_size=8, num_levels=1))
    inputs = torch.randn(6, 3, 4)
    kept = torch.rand(6, 3) < 0.7
    level.start(inputs[kept], per_step=float(kept.sum()))
    level.counts[:3] = 0
    rows = own_share(range(6))
    for _ in range(2):
        x = inputs[rows]
        level.update(x, kept[rows], level.nearest(x))
    result |= {"vectors": level.vectors, "counts": level.counts}


def losses(result: dict[str, torch.Tensor]) -> None:
    """Of the tokenizer, on windows of unlike lengths, with gradients of what decodes and of what encodes them."""
    torch.manual_seed(0)
    width = num_features(BODY_22)
    normalizer = Normalizer(np.zeros(width, np.float32), np.ones(width, np.float32))
    # Fewer entries than codes, or nothing would be lost.
    vqvae = Vqvae(VqvaeShape(width=16, code_width=8, level_size=2, num_levels=2))
    target, mask = torch.randn(4, 8, width), torch.zeros(4, 8)
    for row, length in enumerate((8, 8, 4, 4)):
        mask[row, :length] = 1
    vqvae.start(target, mask[:, ::4] > 0, torch.ones(width), per_step=6.0)
    scale = nn.Parameter(torch.tensor(0.5))
    own = own_share(range(4))
    encoded = vqvae.encoder(target[own])
    kept = mask[own][:, ::4] > 0
    _, inputs, chosen = vqvae.quantize(encoded.detach())
    commitment = vqvae.commitment(encoded, kept, inputs, chosen)
    found = Reconstruction(normalizer, torch.device("cpu")).losses(
        target[own], scale * target[own], mask[own], commitment
    )
    parts = vars(found)
    torch.stack([*parts.values()]).sum().backward()
    average_gradients([scale, *vqvae.encoder.parameters()])
    bias = vqvae.encoder.linear.bias.grad
    assert scale.grad is not None
    assert bias is not None
    result |= {name: averaged(value.detach()) for name, value in parts.items()}
    result |= {"decoded": scale.grad, "encoded": bias}


def judge(result: dict[str, torch.Tensor], folder: Path) -> None:
    """After steps of movements and of pairs, with nothing dropped or forgotten."""
    torch.manual_seed(0)
    evaluator_training.FORGOTTEN_WORDS = 0.0
    prepared = read_prepared(folder)
    settings = replace(PRESETS["tiny"].judge, movement_steps=3, movement_batch=4)
    run = JudgeRun(settings, 6, prepared, prepared.split("train"), None, torch.device("cpu"))
    for part in run.model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    for step in range(6):
        record = run.step(step)
        result |= {f"{step}, {name}": torch.tensor(value) for name, value in record.items()}
    # Several pairs, each with the others as negatives.
    assert record["others"] > 0
    result |= {name: value for name, value in run.model.state_dict().items() if name.endswith("weight")}


def means(result: dict[str, torch.Tensor]) -> None:
    own = torch.tensor([float(number) for number in own_share([1, 2, 3, 6])])
    result |= {"mean": averaged(own.mean()), "sum": summed(own.sum())}


def work(rank: int, count: int, folder: Path, prepared: Path) -> None:
    """What one process finds, in a file."""
    torch.set_num_threads(1)
    if count > 1:
        torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=count)
    result: dict[str, torch.Tensor] = {}
    for part in (gradients, codebook, losses, means):
        part(result)
    judge(result, prepared)
    if count > 1:
        with pytest.raises(ValueError, match="batch must be a multiple of the 2 processes that share it, got 5"):
            check_divides("batch", 5)
        # Processes that differ go on as the first one.
        torch.manual_seed(rank)
        model = nn.Linear(2, 2)
        take_weights_of_first(model)
        take_random_state_of_first(torch.device("cpu"))
    else:
        check_divides("batch", 5)
        torch.manual_seed(0)
        model = nn.Linear(2, 2)
    result |= {"model": model.weight.detach(), "drawn": torch.rand(3)}
    torch.save(result, folder / f"{count}-{rank}.pt")
    if count > 1:
        torch.distributed.destroy_process_group()


def test_two_processes_find_what_one_finds(prepared_folder: Path, tmp_path: Path):
    spawn(work, (1, tmp_path, prepared_folder), nprocs=1)
    spawn(work, (2, tmp_path, prepared_folder), nprocs=2)
    wanted = torch.load(tmp_path / "1-0.pt")
    for rank in range(2):
        found = torch.load(tmp_path / f"2-{rank}.pt")
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            # Of gradients that are next to nothing Adam makes whole steps.
            atol = 1e-4 if "." in name else 1e-5
            assert torch.allclose(found[name], value, atol=atol), (rank, name)
    assert float(wanted["mean"]) == 3
