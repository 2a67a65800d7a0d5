import json
from pathlib import Path
from types import SimpleNamespace

from python_core.grpo.alarms import START_VALUES, Alarms


def test_alarms_compare_with_limits_and_with_the_mean_of_the_first_values(tmp_path: Path):
    alarms = Alarms(tmp_path / "metrics.jsonl")
    for value in (4.0, 1.0, 1.0, 2.0, 2.0):
        assert alarms.check({"entropy": value, "kl": 0.1, "plan/tokens": None, "foot_skate_m_s": float("nan")}) == []
    # A start of 4 would have said 1.2.
    assert alarms.check({"entropy": 0.7}) == []
    (fallen,) = alarms.check({"entropy": 0.5})
    assert fallen.startswith("entropy is 0.5, below 0.6: replies become alike")
    assert [alarm.split(" is ")[0] for alarm in alarms.check({"groups_without_variance": 0.9, "kl": 0.3})] == [
        "groups_without_variance",
        "kl",
    ]


def test_what_the_judge_said_before_the_first_step_is_the_start_at_once(tmp_path: Path):
    alarms = Alarms(tmp_path / "metrics.jsonl")
    assert alarms.check({"judge/fid": 10.0, "judge/r_at_3": 0.5}) == []
    gamed, worse = alarms.check({"judge/fid": 11.0, "judge/r_at_3": 0.4})
    assert "judge/r_at_3 is 0.4, below 0.45" in gamed
    assert "judge/fid is 11, above 10.5" in worse


def test_a_run_that_goes_on_has_the_start_that_it_had(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    straight, going_on = Alarms(path), Alarms(path)
    values = [2.0, 3.0, 1.0, 2.0, 2.0, 9.0]
    lines = [{"step": step, "entropy": value} for step, value in enumerate(values, start=1)]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    for line in lines:
        straight.check(line)
    going_on.on_train_begin(None, SimpleNamespace(global_step=6), None)
    assert straight.first == going_on.first == {"entropy": values[:START_VALUES]}
