"""What is counted of a call, worked out by hand."""

import pytest

from bridge.metrics import Metrics, StreamCounts
from bridge.stubs import motion_pb2

HEADER = motion_pb2.MotionEvent(header=motion_pb2.StreamHeader(model=motion_pb2.Model(frame_rate_hz=20)))
SUMMARY = motion_pb2.MotionEvent(
    summary=motion_pb2.StreamSummary(
        num_reasoning_tokens=7, quality=motion_pb2.QualityReport(verdict=motion_pb2.VERDICT_FAIR)
    )
)


def counted(request: motion_pb2.StreamMotionRequest | motion_pb2.DecodeMotionRequest) -> Metrics:
    """A stream that arrives at 10 s and sends codes of 0.2 s at 10.5, 10.6, 11 and 11.1 s."""
    metrics, now_s = Metrics(), [10.0]
    counts = StreamCounts(metrics, request, tokens_per_code=3, began_s=10.0, clock=lambda: now_s[0])
    counts.sent(HEADER)
    for place, now_s[0] in enumerate((10.5, 10.6, 11.0, 11.1)):
        counts.sent(motion_pb2.MotionEvent(chunk=motion_pb2.FrameChunk(first_frame=4 * place)))
    assert not counts.complete
    counts.sent(SUMMARY)
    assert counts.complete
    assert counts.first_frame_ms == pytest.approx(500)
    assert counts.last_frame_ms == pytest.approx(1100)
    return metrics


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_a_chunk_after_it_was_needed_is_an_underrun_and_moves_what_follows():
    metrics = counted(motion_pb2.StreamMotionRequest())
    # Shown from 10.5 s on, the third was needed at 10.9 s; the fourth then only at 11.2 s.
    assert value(metrics, "motion_underruns_total") == 1
    assert value(metrics, "motion_chunk_gap_seconds_count") == 3
    assert value(metrics, "motion_chunk_gap_seconds_sum") == pytest.approx(0.6)
    assert value(metrics, "motion_first_frame_seconds_sum", reasoning="on") == pytest.approx(0.5)
    assert value(metrics, "motion_codes_total") == 4
    assert value(metrics, "motion_tokens_total", kind="motion") == 12
    assert value(metrics, "motion_tokens_total", kind="reasoning") == 7
    assert value(metrics, "motion_quality_total", verdict="fair") == 1


@pytest.mark.parametrize(
    ("request_", "reasoning"),
    [
        (motion_pb2.StreamMotionRequest(reasoning=motion_pb2.REASONING_OFF), "off"),
        (motion_pb2.StreamMotionRequest(beats=[motion_pb2.Beat(text="walk", duration_s=1)]), "given"),
        (motion_pb2.DecodeMotionRequest(codes=[1]), "none"),
    ],
)
def test_first_frames_are_told_apart_by_what_was_reasoned(
    request_: motion_pb2.StreamMotionRequest | motion_pb2.DecodeMotionRequest, reasoning: str
):
    metrics = counted(request_)
    assert value(metrics, "motion_first_frame_seconds_count", reasoning=reasoning) == 1
    written = None if reasoning == "none" else 12
    assert value(metrics, "motion_tokens_total", kind="motion") == written, "decoding writes no tokens"


def test_a_plan_is_counted_by_its_tokens():
    metrics = Metrics()
    counts = StreamCounts(metrics, motion_pb2.PlanMotionRequest(), 3, began_s=0.0)
    counts.sent(motion_pb2.PlanMotionResponse(num_reasoning_tokens=9))
    assert counts.complete
    assert value(metrics, "motion_tokens_total", kind="reasoning") == 9
