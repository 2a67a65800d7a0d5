import json
from pathlib import Path

from transformers import TrainerControl, TrainerState

from python_core.sft.early_stop import ACCURACY, EarlyStop


def log(*accuracies: float, every: int = 10) -> list[dict[str, float]]:
    """What a run has logged that measures every so many steps; other lines are between."""
    lines: list[dict[str, float]] = []
    for number, accuracy in enumerate(accuracies, start=1):
        lines += [{"step": number * every, "loss": 1.0}, {"step": number * every, f"eval_{ACCURACY}": accuracy}]
    return lines


def stops(early_stop: EarlyStop, *accuracies: float) -> bool:
    state, control = TrainerState(global_step=10 * len(accuracies), log_history=log(*accuracies)), TrainerControl()
    early_stop.on_evaluate(None, state, control)
    return control.should_training_stop


def test_a_run_ends_so_many_steps_after_its_best_checkpoint():
    early_stop = EarlyStop(patience=20, first_steps=0)
    assert not stops(early_stop, 0.1, 0.3, 0.2)
    assert stops(early_stop, 0.1, 0.3, 0.2, 0.2)
    # As good is not better.
    assert stops(early_stop, 0.1, 0.3, 0.3, 0.3)
    assert not stops(early_stop, 0.1, 0.3, 0.2, 0.4)


def test_first_steps_do_not_count():
    assert not stops(EarlyStop(patience=20, first_steps=30), 0.3, 0.2, 0.2, 0.2)
    assert stops(EarlyStop(patience=20, first_steps=30), 0.3, 0.2, 0.2, 0.2, 0.2)


def test_a_run_that_has_ended_early_is_known_by_its_last_checkpoint(tmp_path: Path):
    early_stop = EarlyStop(patience=20, first_steps=0)
    assert early_stop.stopped_at(tmp_path) is None
    for step, accuracies in ((20, (0.1, 0.3)), (40, (0.1, 0.3, 0.2, 0.2))):
        (tmp_path / f"checkpoint-{step}").mkdir()
        state = {"global_step": step, "log_history": log(*accuracies)}
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(json.dumps(state))
        assert early_stop.stopped_at(tmp_path) == (40 if step == 40 else None)
    assert EarlyStop(patience=30, first_steps=0).stopped_at(tmp_path) is None
