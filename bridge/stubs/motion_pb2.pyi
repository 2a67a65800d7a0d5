from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Reasoning(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASONING_UNSPECIFIED: _ClassVar[Reasoning]
    REASONING_ON: _ClassVar[Reasoning]
    REASONING_OFF: _ClassVar[Reasoning]

class PacingMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PACING_MODE_UNSPECIFIED: _ClassVar[PacingMode]
    PACING_MODE_BURST: _ClassVar[PacingMode]
    PACING_MODE_REALTIME: _ClassVar[PacingMode]

class StopReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STOP_REASON_UNSPECIFIED: _ClassVar[StopReason]
    STOP_REASON_MODEL: _ClassVar[StopReason]
    STOP_REASON_PLAN_DURATION: _ClassVar[StopReason]
    STOP_REASON_MAX_DURATION: _ClassVar[StopReason]
    STOP_REASON_CODES: _ClassVar[StopReason]

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_GOOD: _ClassVar[Verdict]
    VERDICT_FAIR: _ClassVar[Verdict]
    VERDICT_POOR: _ClassVar[Verdict]
REASONING_UNSPECIFIED: Reasoning
REASONING_ON: Reasoning
REASONING_OFF: Reasoning
PACING_MODE_UNSPECIFIED: PacingMode
PACING_MODE_BURST: PacingMode
PACING_MODE_REALTIME: PacingMode
STOP_REASON_UNSPECIFIED: StopReason
STOP_REASON_MODEL: StopReason
STOP_REASON_PLAN_DURATION: StopReason
STOP_REASON_MAX_DURATION: StopReason
STOP_REASON_CODES: StopReason
VERDICT_UNSPECIFIED: Verdict
VERDICT_GOOD: Verdict
VERDICT_FAIR: Verdict
VERDICT_POOR: Verdict

class GetModelRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model", "limits")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    model: Model
    limits: Limits
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("model_id", "revision", "wire_version", "language_model_provider", "motion_decoder_provider", "skeleton", "frame_rate_hz", "frames_per_code", "num_codes", "licence", "data_notice")
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    WIRE_VERSION_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_MODEL_PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MOTION_DECODER_PROVIDER_FIELD_NUMBER: _ClassVar[int]
    SKELETON_FIELD_NUMBER: _ClassVar[int]
    FRAME_RATE_HZ_FIELD_NUMBER: _ClassVar[int]
    FRAMES_PER_CODE_FIELD_NUMBER: _ClassVar[int]
    NUM_CODES_FIELD_NUMBER: _ClassVar[int]
    LICENCE_FIELD_NUMBER: _ClassVar[int]
    DATA_NOTICE_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    revision: str
    wire_version: str
    language_model_provider: str
    motion_decoder_provider: str
    skeleton: Skeleton
    frame_rate_hz: float
    frames_per_code: int
    num_codes: int
    licence: str
    data_notice: str
    def __init__(self, model_id: _Optional[str] = ..., revision: _Optional[str] = ..., wire_version: _Optional[str] = ..., language_model_provider: _Optional[str] = ..., motion_decoder_provider: _Optional[str] = ..., skeleton: _Optional[_Union[Skeleton, _Mapping]] = ..., frame_rate_hz: _Optional[float] = ..., frames_per_code: _Optional[int] = ..., num_codes: _Optional[int] = ..., licence: _Optional[str] = ..., data_notice: _Optional[str] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_prompt_code_points", "max_duration_s", "max_history_codes", "max_decode_codes", "max_beats", "max_best_of", "max_lead_s", "max_request_bytes", "max_streams", "max_idle_s")
    MAX_PROMPT_CODE_POINTS_FIELD_NUMBER: _ClassVar[int]
    MAX_DURATION_S_FIELD_NUMBER: _ClassVar[int]
    MAX_HISTORY_CODES_FIELD_NUMBER: _ClassVar[int]
    MAX_DECODE_CODES_FIELD_NUMBER: _ClassVar[int]
    MAX_BEATS_FIELD_NUMBER: _ClassVar[int]
    MAX_BEST_OF_FIELD_NUMBER: _ClassVar[int]
    MAX_LEAD_S_FIELD_NUMBER: _ClassVar[int]
    MAX_REQUEST_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_STREAMS_FIELD_NUMBER: _ClassVar[int]
    MAX_IDLE_S_FIELD_NUMBER: _ClassVar[int]
    max_prompt_code_points: int
    max_duration_s: float
    max_history_codes: int
    max_decode_codes: int
    max_beats: int
    max_best_of: int
    max_lead_s: float
    max_request_bytes: int
    max_streams: int
    max_idle_s: float
    def __init__(self, max_prompt_code_points: _Optional[int] = ..., max_duration_s: _Optional[float] = ..., max_history_codes: _Optional[int] = ..., max_decode_codes: _Optional[int] = ..., max_beats: _Optional[int] = ..., max_best_of: _Optional[int] = ..., max_lead_s: _Optional[float] = ..., max_request_bytes: _Optional[int] = ..., max_streams: _Optional[int] = ..., max_idle_s: _Optional[float] = ...) -> None: ...

class Skeleton(_message.Message):
    __slots__ = ("name", "joint_names", "parents", "rest_offsets_m", "rest_root_height_m")
    NAME_FIELD_NUMBER: _ClassVar[int]
    JOINT_NAMES_FIELD_NUMBER: _ClassVar[int]
    PARENTS_FIELD_NUMBER: _ClassVar[int]
    REST_OFFSETS_M_FIELD_NUMBER: _ClassVar[int]
    REST_ROOT_HEIGHT_M_FIELD_NUMBER: _ClassVar[int]
    name: str
    joint_names: _containers.RepeatedScalarFieldContainer[str]
    parents: _containers.RepeatedScalarFieldContainer[int]
    rest_offsets_m: bytes
    rest_root_height_m: float
    def __init__(self, name: _Optional[str] = ..., joint_names: _Optional[_Iterable[str]] = ..., parents: _Optional[_Iterable[int]] = ..., rest_offsets_m: _Optional[bytes] = ..., rest_root_height_m: _Optional[float] = ...) -> None: ...

class PlanMotionRequest(_message.Message):
    __slots__ = ("prompt", "seed", "sampling")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    prompt: str
    seed: int
    sampling: Sampling
    def __init__(self, prompt: _Optional[str] = ..., seed: _Optional[int] = ..., sampling: _Optional[_Union[Sampling, _Mapping]] = ...) -> None: ...

class PlanMotionResponse(_message.Message):
    __slots__ = ("plan", "request_id", "num_reasoning_tokens")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NUM_REASONING_TOKENS_FIELD_NUMBER: _ClassVar[int]
    plan: Plan
    request_id: str
    num_reasoning_tokens: int
    def __init__(self, plan: _Optional[_Union[Plan, _Mapping]] = ..., request_id: _Optional[str] = ..., num_reasoning_tokens: _Optional[int] = ...) -> None: ...

class StreamMotionRequest(_message.Message):
    __slots__ = ("prompt", "seed", "reasoning", "max_duration_s", "sampling", "beats", "history", "pacing", "best_of", "min_quality")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    REASONING_FIELD_NUMBER: _ClassVar[int]
    MAX_DURATION_S_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    BEATS_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    PACING_FIELD_NUMBER: _ClassVar[int]
    BEST_OF_FIELD_NUMBER: _ClassVar[int]
    MIN_QUALITY_FIELD_NUMBER: _ClassVar[int]
    prompt: str
    seed: int
    reasoning: Reasoning
    max_duration_s: float
    sampling: Sampling
    beats: _containers.RepeatedCompositeFieldContainer[Beat]
    history: History
    pacing: Pacing
    best_of: int
    min_quality: float
    def __init__(self, prompt: _Optional[str] = ..., seed: _Optional[int] = ..., reasoning: _Optional[_Union[Reasoning, str]] = ..., max_duration_s: _Optional[float] = ..., sampling: _Optional[_Union[Sampling, _Mapping]] = ..., beats: _Optional[_Iterable[_Union[Beat, _Mapping]]] = ..., history: _Optional[_Union[History, _Mapping]] = ..., pacing: _Optional[_Union[Pacing, _Mapping]] = ..., best_of: _Optional[int] = ..., min_quality: _Optional[float] = ...) -> None: ...

class DecodeMotionRequest(_message.Message):
    __slots__ = ("codes", "history", "pacing")
    CODES_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    PACING_FIELD_NUMBER: _ClassVar[int]
    codes: _containers.RepeatedScalarFieldContainer[int]
    history: History
    pacing: Pacing
    def __init__(self, codes: _Optional[_Iterable[int]] = ..., history: _Optional[_Union[History, _Mapping]] = ..., pacing: _Optional[_Union[Pacing, _Mapping]] = ...) -> None: ...

class DecodeMotionResponse(_message.Message):
    __slots__ = ("event",)
    EVENT_FIELD_NUMBER: _ClassVar[int]
    event: MotionEvent
    def __init__(self, event: _Optional[_Union[MotionEvent, _Mapping]] = ...) -> None: ...

class History(_message.Message):
    __slots__ = ("codes", "root")
    CODES_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    codes: _containers.RepeatedScalarFieldContainer[int]
    root: RootPlace
    def __init__(self, codes: _Optional[_Iterable[int]] = ..., root: _Optional[_Union[RootPlace, _Mapping]] = ...) -> None: ...

class RootPlace(_message.Message):
    __slots__ = ("x_m", "z_m", "yaw_rad")
    X_M_FIELD_NUMBER: _ClassVar[int]
    Z_M_FIELD_NUMBER: _ClassVar[int]
    YAW_RAD_FIELD_NUMBER: _ClassVar[int]
    x_m: float
    z_m: float
    yaw_rad: float
    def __init__(self, x_m: _Optional[float] = ..., z_m: _Optional[float] = ..., yaw_rad: _Optional[float] = ...) -> None: ...

class Pacing(_message.Message):
    __slots__ = ("mode", "max_lead_s")
    MODE_FIELD_NUMBER: _ClassVar[int]
    MAX_LEAD_S_FIELD_NUMBER: _ClassVar[int]
    mode: PacingMode
    max_lead_s: float
    def __init__(self, mode: _Optional[_Union[PacingMode, str]] = ..., max_lead_s: _Optional[float] = ...) -> None: ...

class Sampling(_message.Message):
    __slots__ = ("temperature", "top_p")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    top_p: float
    def __init__(self, temperature: _Optional[float] = ..., top_p: _Optional[float] = ...) -> None: ...

class StreamMotionResponse(_message.Message):
    __slots__ = ("event",)
    EVENT_FIELD_NUMBER: _ClassVar[int]
    event: MotionEvent
    def __init__(self, event: _Optional[_Union[MotionEvent, _Mapping]] = ...) -> None: ...

class MotionEvent(_message.Message):
    __slots__ = ("header", "plan", "chunk", "summary")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    header: StreamHeader
    plan: Plan
    chunk: FrameChunk
    summary: StreamSummary
    def __init__(self, header: _Optional[_Union[StreamHeader, _Mapping]] = ..., plan: _Optional[_Union[Plan, _Mapping]] = ..., chunk: _Optional[_Union[FrameChunk, _Mapping]] = ..., summary: _Optional[_Union[StreamSummary, _Mapping]] = ...) -> None: ...

class StreamHeader(_message.Message):
    __slots__ = ("model", "request_id", "seed", "pacing")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    PACING_FIELD_NUMBER: _ClassVar[int]
    model: Model
    request_id: str
    seed: int
    pacing: Pacing
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ..., request_id: _Optional[str] = ..., seed: _Optional[int] = ..., pacing: _Optional[_Union[Pacing, _Mapping]] = ...) -> None: ...

class Plan(_message.Message):
    __slots__ = ("beats", "text")
    BEATS_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    beats: _containers.RepeatedCompositeFieldContainer[Beat]
    text: str
    def __init__(self, beats: _Optional[_Iterable[_Union[Beat, _Mapping]]] = ..., text: _Optional[str] = ...) -> None: ...

class Beat(_message.Message):
    __slots__ = ("text", "duration_s", "body_parts")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    BODY_PARTS_FIELD_NUMBER: _ClassVar[int]
    text: str
    duration_s: float
    body_parts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, text: _Optional[str] = ..., duration_s: _Optional[float] = ..., body_parts: _Optional[_Iterable[str]] = ...) -> None: ...

class FrameChunk(_message.Message):
    __slots__ = ("first_frame", "code", "root_positions_m", "joint_rotations", "contacts", "next_root")
    FIRST_FRAME_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    ROOT_POSITIONS_M_FIELD_NUMBER: _ClassVar[int]
    JOINT_ROTATIONS_FIELD_NUMBER: _ClassVar[int]
    CONTACTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_ROOT_FIELD_NUMBER: _ClassVar[int]
    first_frame: int
    code: int
    root_positions_m: bytes
    joint_rotations: bytes
    contacts: bytes
    next_root: RootPlace
    def __init__(self, first_frame: _Optional[int] = ..., code: _Optional[int] = ..., root_positions_m: _Optional[bytes] = ..., joint_rotations: _Optional[bytes] = ..., contacts: _Optional[bytes] = ..., next_root: _Optional[_Union[RootPlace, _Mapping]] = ...) -> None: ...

class StreamSummary(_message.Message):
    __slots__ = ("num_codes", "num_frames", "duration_s", "stop_reason", "quality", "first_frame_ms", "total_ms", "num_reasoning_tokens", "seed", "num_takes")
    NUM_CODES_FIELD_NUMBER: _ClassVar[int]
    NUM_FRAMES_FIELD_NUMBER: _ClassVar[int]
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    STOP_REASON_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    FIRST_FRAME_MS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    NUM_REASONING_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    NUM_TAKES_FIELD_NUMBER: _ClassVar[int]
    num_codes: int
    num_frames: int
    duration_s: float
    stop_reason: StopReason
    quality: QualityReport
    first_frame_ms: float
    total_ms: float
    num_reasoning_tokens: int
    seed: int
    num_takes: int
    def __init__(self, num_codes: _Optional[int] = ..., num_frames: _Optional[int] = ..., duration_s: _Optional[float] = ..., stop_reason: _Optional[_Union[StopReason, str]] = ..., quality: _Optional[_Union[QualityReport, _Mapping]] = ..., first_frame_ms: _Optional[float] = ..., total_ms: _Optional[float] = ..., num_reasoning_tokens: _Optional[int] = ..., seed: _Optional[int] = ..., num_takes: _Optional[int] = ...) -> None: ...

class QualityReport(_message.Message):
    __slots__ = ("foot_skate_m_s", "foot_skate_ratio", "penetration_m", "jerk_m_s3", "loop_gap_m", "contact_foot_speed_m_s", "float_m", "joint_speed_m_s", "bone_length_error_m", "root_speed_m_s", "score", "verdict", "weakest_measure")
    FOOT_SKATE_M_S_FIELD_NUMBER: _ClassVar[int]
    FOOT_SKATE_RATIO_FIELD_NUMBER: _ClassVar[int]
    PENETRATION_M_FIELD_NUMBER: _ClassVar[int]
    JERK_M_S3_FIELD_NUMBER: _ClassVar[int]
    LOOP_GAP_M_FIELD_NUMBER: _ClassVar[int]
    CONTACT_FOOT_SPEED_M_S_FIELD_NUMBER: _ClassVar[int]
    FLOAT_M_FIELD_NUMBER: _ClassVar[int]
    JOINT_SPEED_M_S_FIELD_NUMBER: _ClassVar[int]
    BONE_LENGTH_ERROR_M_FIELD_NUMBER: _ClassVar[int]
    ROOT_SPEED_M_S_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    WEAKEST_MEASURE_FIELD_NUMBER: _ClassVar[int]
    foot_skate_m_s: float
    foot_skate_ratio: float
    penetration_m: float
    jerk_m_s3: float
    loop_gap_m: float
    contact_foot_speed_m_s: float
    float_m: float
    joint_speed_m_s: float
    bone_length_error_m: float
    root_speed_m_s: float
    score: float
    verdict: Verdict
    weakest_measure: str
    def __init__(self, foot_skate_m_s: _Optional[float] = ..., foot_skate_ratio: _Optional[float] = ..., penetration_m: _Optional[float] = ..., jerk_m_s3: _Optional[float] = ..., loop_gap_m: _Optional[float] = ..., contact_foot_speed_m_s: _Optional[float] = ..., float_m: _Optional[float] = ..., joint_speed_m_s: _Optional[float] = ..., bone_length_error_m: _Optional[float] = ..., root_speed_m_s: _Optional[float] = ..., score: _Optional[float] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., weakest_measure: _Optional[str] = ...) -> None: ...
