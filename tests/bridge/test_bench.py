import json
from pathlib import Path

import pytest

from bridge.__main__ import main
from bridge.bench import Level, held_in_real_time, spread
from bridge.thread_speed import ThreadSpeed, best, compare_threads


def test_percentiles_are_what_so_many_of_a_hundred_keep():
    values = [float(number) for number in range(1, 102)]
    assert spread(values) is not None
    fast = spread(values)
    assert fast is not None
    assert (fast.min, fast.p50, fast.p90, fast.p99) == (1, 51, 91, 100)
    slow = spread(values, more_is_better=True)
    assert slow is not None
    assert (slow.min, slow.p50, slow.p90, slow.p99) == (1, 51, 11, 2)
    assert spread([]) is None


def test_real_time_is_held_where_every_stream_was_in_time():
    def level(streams: int, in_real_time: float, refused: int = 0) -> Level:
        return Level(
            streams=streams, complete=5, refused=refused, failed=0, first_frame_ms=None, frames_per_s=None,
            chunk_gap_ms=None, in_real_time=in_real_time,
        )  # fmt: skip

    assert held_in_real_time([level(1, 1.0), level(4, 1.0), level(8, 0.9)]) == 4
    assert held_in_real_time([level(1, 0.5)]) == 0
    assert held_in_real_time([level(1, 1.0), level(20, 1.0, refused=3)]) == 1


def test_bench_measures_a_server_of_its_own_and_writes_its_numbers(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "bench.json"
    command = ["bench", "--bundle", str(tiny_bundle), "--streams", "1,2", "--rounds", "2", "--duration-s", "0.6"]
    assert main([*command, "--json", str(path)]) == 0
    assert "held in real time" in capsys.readouterr().out
    written = json.loads(path.read_text())
    assert [level["streams"] for level in written["levels"]] == [1, 2]
    assert [level["complete"] for level in written["levels"]] == [2, 4]
    for level in written["levels"]:
        first = level["first_frame_ms"]
        assert 0 < first["min"] <= first["p50"] <= first["p90"] <= first["p95"] <= first["p99"]
        assert level["frames_per_s"]["min"] <= level["frames_per_s"]["p99"] <= level["frames_per_s"]["p50"]


@pytest.mark.parametrize("streams", ["none", "1,x", "0", ""])
def test_a_number_of_streams_that_is_none_is_an_error(streams: str, capsys: pytest.CaptureFixture[str]):
    assert main(["bench", "--streams", streams]) == 2
    assert "--streams" in capsys.readouterr().err


def test_more_threads_are_best_only_where_they_pay():
    speeds = [
        ThreadSpeed(num_threads=1, code_ms={1: 10.0, 8: 4.0}),
        ThreadSpeed(num_threads=2, code_ms={1: 6.0, 8: 3.9}),
        ThreadSpeed(num_threads=8, code_ms={1: 5.8, 8: 5.0}),
    ]
    assert (best(speeds, 1), best(speeds, 8)) == (2, 1)


def test_threads_are_compared_on_the_bundle_at_hand_and_give_the_same_codes(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    speeds = compare_threads(tiny_bundle, "cpu", (1, 2))
    assert [speed.num_threads for speed in speeds] == [1, 2, 3]
    assert all(ms > 0 for speed in speeds for ms in speed.code_ms.values())
    # More streams than a model writes at once where nobody says.
    asked = ["--bundle", str(tiny_bundle), "--streams", "1,66", "--json", str(tmp_path / "threads.json")]
    assert main(["bench", "--compare-threads", *asked]) == 0
    written = json.loads((tmp_path / "threads.json").read_text())
    assert [(one["num_threads"], [*one["code_ms"]]) for one in written] == [(n, ["1", "66"]) for n in (1, 2, 3)]
    assert "best --threads: " in capsys.readouterr().out
    assert main(["bench", "--compare-threads", "--address", "localhost:1"]) == 2
    assert "leave out --address" in capsys.readouterr().err
