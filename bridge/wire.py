"""Our types as messages, and messages as our types."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bridge.decoder import RootPlace
from bridge.pacing import Pacing
from bridge.stream import Chunk, MotionModel, Planned, Stop, Summary
from bridge.stubs import motion_pb2
from python_core.contract.motion import Motion
from python_core.contract.plan import Beat, Plan
from python_core.contract.quality import QualityReport
from python_core.contract.quality_thresholds import Verdict
from python_core.contract.skeleton import BODY_22, Skeleton

WIRE_VERSION = "1.2"
"""Major number of the proto's package, then the number of times that it grew."""

_STOP_REASONS = {
    Stop.MODEL: motion_pb2.STOP_REASON_MODEL,
    Stop.PLAN_DURATION: motion_pb2.STOP_REASON_PLAN_DURATION,
    Stop.MAX_DURATION: motion_pb2.STOP_REASON_MAX_DURATION,
    Stop.GIVEN_CODES: motion_pb2.STOP_REASON_CODES,
}
_VERDICTS = {
    Verdict.GOOD: motion_pb2.VERDICT_GOOD,
    Verdict.FAIR: motion_pb2.VERDICT_FAIR,
    Verdict.POOR: motion_pb2.VERDICT_POOR,
}


def model(opened: MotionModel) -> motion_pb2.Model:
    """Describe a model."""
    manifest = opened.bundle.manifest
    skeleton = manifest.skeleton
    return motion_pb2.Model(
        model_id=manifest.model_id,
        revision=opened.bundle.revision,
        wire_version=WIRE_VERSION,
        language_model_provider=opened.engine.provider,
        motion_decoder_provider=opened.decoder.provider,
        skeleton=motion_pb2.Skeleton(
            name=skeleton.name,
            joint_names=skeleton.joint_names,
            parents=skeleton.parents,
            rest_offsets_m=_to_bytes(skeleton.offsets_m),
            rest_root_height_m=skeleton.rest_root_height_m,
        ),
        frame_rate_hz=manifest.frame_rate_hz,
        frames_per_code=manifest.frames_per_code,
        num_codes=manifest.tokens.num_codes,
        licence=manifest.licence,
        data_notice=manifest.data_notice,
    )


def header(described: motion_pb2.Model, request_id: str, seed: int, pacing: Pacing) -> motion_pb2.MotionEvent:
    """The first event of a stream."""
    paced = motion_pb2.Pacing(mode=motion_pb2.PACING_MODE_BURST)
    if pacing.max_lead_s is not None:
        paced = motion_pb2.Pacing(mode=motion_pb2.PACING_MODE_REALTIME, max_lead_s=pacing.max_lead_s)
    message = motion_pb2.StreamHeader(model=described, request_id=request_id, seed=seed, pacing=paced)
    return motion_pb2.MotionEvent(header=message)


def plan(planned: Planned) -> motion_pb2.Plan:
    """A plan with its text."""
    return motion_pb2.Plan(beats=beats(planned.plan), text=planned.text)


def beats(plan: Plan) -> list[motion_pb2.Beat]:
    """The beats of a plan."""
    return [
        motion_pb2.Beat(text=beat.text, duration_s=beat.duration_s, body_parts=beat.body_parts) for beat in plan.beats
    ]


def root_place(place: RootPlace) -> motion_pb2.RootPlace:
    """Where the body stands."""
    return motion_pb2.RootPlace(x_m=place.x_m, z_m=place.z_m, yaw_rad=place.yaw_rad)


def chunk(event: Chunk) -> motion_pb2.MotionEvent:
    """The event that carries the frames of one code."""
    motion = event.motion
    message = motion_pb2.FrameChunk(
        first_frame=event.first_frame,
        code=event.code,
        root_positions_m=_to_bytes(motion.root_positions_m),
        joint_rotations=_to_bytes(motion.joint_rotations),
        contacts=np.packbits(motion.contacts, axis=1, bitorder="little").tobytes(),
        next_root=root_place(event.next_root),
    )
    return motion_pb2.MotionEvent(chunk=message)


def summary(
    event: Summary, first_frame_ms: float, total_ms: float, seed: int = 0, num_takes: int = 0
) -> motion_pb2.MotionEvent:
    """The last event of a stream."""
    message = motion_pb2.StreamSummary(
        num_codes=event.num_codes,
        num_frames=event.num_frames,
        duration_s=event.duration_s,
        stop_reason=_STOP_REASONS[event.stop],
        quality=quality(event.quality),
        first_frame_ms=first_frame_ms,
        total_ms=total_ms,
        num_reasoning_tokens=event.num_reasoning_tokens,
        seed=seed,
        num_takes=num_takes,
    )
    return motion_pb2.MotionEvent(summary=message)


def quality(report: QualityReport) -> motion_pb2.QualityReport:
    """Measures of a motion."""
    return motion_pb2.QualityReport(
        foot_skate_m_s=report.foot_skate_m_s,
        foot_skate_ratio=report.foot_skate_ratio,
        penetration_m=report.penetration_m,
        jerk_m_s3=report.jerk_m_s3,
        loop_gap_m=report.loop_gap_m,
        contact_foot_speed_m_s=report.contact_foot_speed_m_s,
        float_m=report.float_m,
        joint_speed_m_s=report.joint_speed_m_s,
        bone_length_error_m=report.bone_length_error_m,
        root_speed_m_s=report.root_speed_m_s,
        score=report.score,
        verdict=_VERDICTS[report.verdict],
        weakest_measure=report.weakest_measure,
    )


def read_plan(message: motion_pb2.Plan) -> Plan:
    """The plan of a message. Durations travel as float32 and mean tenths of a second."""
    return Plan(tuple(Beat(beat.text, round(beat.duration_s, 1), tuple(beat.body_parts)) for beat in message.beats))


def read_skeleton(message: motion_pb2.Skeleton) -> Skeleton:
    """The skeleton of a header: the 22-joint body, perhaps with bones of other lengths.

    Raises:
        ValueError: It has other joints.
    """
    names, parents = tuple(message.joint_names), tuple(message.parents)
    if (names, parents) != (BODY_22.joint_names, BODY_22.parents):
        raise ValueError(
            f"the server's skeleton {message.name!r} has {len(names)} joints that are not those of {BODY_22.name}; "
            "update this client"
        )
    offsets = _from_bytes(message.rest_offsets_m, (len(names), 3), "rest_offsets_m")
    if np.array_equal(offsets, BODY_22.offsets_m):
        return BODY_22
    rows = tuple((float(x), float(y), float(z)) for x, y, z in offsets)
    return replace(BODY_22, name=message.name, rest_offsets_m=rows)


def read_chunk(message: motion_pb2.FrameChunk, skeleton: Skeleton, frame_rate_hz: float) -> Motion:
    """The frames of a chunk.

    Raises:
        ValueError: The arrays differ in their number of frames, or are no motion.
    """
    num_frames = len(message.contacts)
    bits = np.frombuffer(message.contacts, dtype=np.uint8)[:, None]
    return Motion(
        root_positions_m=_from_bytes(message.root_positions_m, (num_frames, 3), "root_positions_m"),
        joint_rotations=_from_bytes(message.joint_rotations, (num_frames, skeleton.num_joints, 4), "joint_rotations"),
        contacts=np.unpackbits(bits, axis=1, count=len(skeleton.foot_joints), bitorder="little").astype(np.bool_),
        frame_rate_hz=frame_rate_hz,
        skeleton=skeleton,
    )


def _to_bytes(numbers: NDArray[np.float32]) -> bytes:
    return numbers.astype("<f4", copy=False).tobytes()


def _from_bytes(data: bytes, shape: tuple[int, ...], field: str) -> NDArray[np.float32]:
    numbers = np.frombuffer(data, dtype="<f4") if len(data) % 4 == 0 else np.empty(0)
    if numbers.size != np.prod(shape):
        raise ValueError(f"{field}: {len(data)} bytes are not {' x '.join(map(str, shape))} float32 numbers")
    return numbers.reshape(shape).astype(np.float32)
