import pytest

from bridge import wire
from bridge.__main__ import MEASURE_ROWS, _verdict
from bridge.stream import Stop, Summary
from bridge.stubs import motion_pb2
from python_core.contract.quality import QualityReport
from python_core.contract.quality_thresholds import THRESHOLDS, Verdict

MEASURES = tuple(QualityReport.__dataclass_fields__)
NONE = dict.fromkeys(MEASURES, 0.0)


def sent(report: QualityReport) -> motion_pb2.QualityReport:
    """The report of a summary after a trip over the wire."""
    summary = Summary(1, 4, 0.2, Stop.MODEL, report, 0)
    data = wire.summary(summary, first_frame_ms=1.0, total_ms=2.0).SerializeToString()
    return motion_pb2.MotionEvent.FromString(data).summary.quality


def test_every_field_of_the_report_arrives():
    # Each measure another number, so that none can stand for another.
    report = QualityReport(**{name: 0.125 * number for number, name in enumerate(MEASURES, start=1)})
    quality = sent(report)
    fields = {field.name for field in motion_pb2.QualityReport.DESCRIPTOR.fields}
    assert fields == {*MEASURES, "score", "verdict", "weakest_measure"}
    assert {field.name for field, _ in quality.ListFields()} == fields
    for name in (*MEASURES, "score"):
        assert getattr(quality, name) == pytest.approx(getattr(report, name), rel=1e-6), name
    assert quality.weakest_measure == report.weakest_measure
    assert quality.verdict == motion_pb2.VERDICT_POOR


@pytest.mark.parametrize(
    ("jerk_m_s3", "verdict", "number", "line"),
    [
        (50.0, Verdict.GOOD, 1, "good, score 0.97"),
        (400.0, Verdict.FAIR, 2, "fair, score 0.43: jerk"),
        (900.0, Verdict.POOR, 3, "poor, score 0.16: jerk"),
    ],
)
def test_the_verdict_arrives_and_names_its_reason(jerk_m_s3: float, verdict: Verdict, number: int, line: str):
    report = QualityReport(**NONE | {"jerk_m_s3": jerk_m_s3})
    quality = sent(report)
    assert (report.verdict, quality.verdict, quality.weakest_measure) == (verdict, number, "jerk_m_s3")
    assert _verdict(quality) == line


def test_each_measure_that_a_motion_can_be_judged_by_has_its_row():
    # Bones of a motion have the skeleton's lengths, so no row tells of them.
    assert {*MEASURE_ROWS, "bone_length_error_m"} == set(THRESHOLDS)
