"""Failures as gRPC tells them: a code, one clear sentence, typed details of google.rpc."""

import logging
import math

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from bridge.request import RequestError, Violation
from bridge.stubs import motion_pb2
from python_core.contract.bundle import BundleError
from python_core.contract.plan import PlanError
from python_core.contract.prompt import PromptError
from python_core.contract.quality import QualityReport
from python_core.contract.vocabulary import ReplyError

logger = logging.getLogger(__name__)

SERVICE = motion_pb2.DESCRIPTOR.services_by_name["MotionService"].full_name
RETRY_DELAY_S = 1.0
"""After which a client may ask again that was sent away."""
MAX_QUOTED = 300
"""Characters of a malformed reply that an error quotes."""


class StatusError(Exception):
    """A call that failed, as gRPC says it: a code, one clear sentence, typed details."""

    def __init__(self, code: grpc.StatusCode, message: str, *details: Message) -> None:
        super().__init__(message)
        self.code, self.message, self.details = code, message, details

    def proto(self) -> status_pb2.Status:
        """As it travels in the trailer `grpc-status-details-bin`."""
        packed = [detail if isinstance(detail, any_pb2.Any) else _packed(detail) for detail in self.details]
        return status_pb2.Status(code=self.code.value[0], message=self.message, details=packed)

    @staticmethod
    def of(status: status_pb2.Status) -> "StatusError":
        """The error that `proto` was made of, its details packed."""
        code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
        return StatusError(code, status.message, *status.details)


class QualityError(ValueError):
    """No take reached the quality that the request asks for."""

    def __init__(self, report: QualityReport, min_quality: float, num_takes: int) -> None:
        takes = "the motion" if num_takes == 1 else f"the best of {num_takes} takes"
        super().__init__(
            f"{takes} has a quality score of {report.score:.2f} ({report.weakest_measure}), the request asks for "
            f"{min_quality:g}; try another seed, a larger best_of or a smaller min_quality"
        )
        self.report = report


def reason(name: str, **metadata: str) -> error_details_pb2.ErrorInfo:
    """The detail that programs read: why a call failed, in one word of ours."""
    return error_details_pb2.ErrorInfo(reason=name, domain=SERVICE, metadata=metadata)


def retry_after(delay_s: float) -> error_details_pb2.RetryInfo:
    """The detail that says when asking again may help."""
    whole = math.floor(delay_s)
    nanos = round((delay_s - whole) * 1e9)
    return error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=whole, nanos=nanos))


def unavailable(why: str, name: str) -> StatusError:
    """What makes clients ask again, here or elsewhere; the reason's name is for programs."""
    return StatusError(
        grpc.StatusCode.UNAVAILABLE,
        f"{why}; ask another replica, or try again in {RETRY_DELAY_S:g} s",
        retry_after(RETRY_DELAY_S),
        reason(name),
    )


def about(request_id: str) -> error_details_pb2.RequestInfo:
    """The detail that says where in the log this call is."""
    return error_details_pb2.RequestInfo(request_id=request_id)


def to_status(error: Exception, request_id: str) -> StatusError:
    """What a client is told of a failure. What nobody expected is logged, and named by the request's id only."""
    if isinstance(error, StatusError):
        return error
    if isinstance(error, PromptError):
        error = RequestError([Violation("prompt", str(error))])
    if isinstance(error, RequestError):
        fields = [
            error_details_pb2.BadRequest.FieldViolation(field=violation.field, description=violation.description)
            for violation in error.violations
        ]
        bad_request = error_details_pb2.BadRequest(field_violations=fields)
        return StatusError(grpc.StatusCode.INVALID_ARGUMENT, str(error), bad_request, about(request_id))
    if isinstance(error, PlanError | ReplyError):
        # ABORTED, not INTERNAL: the server is well and another seed may succeed; not UNAVAILABLE, which clients
        # repeat unchanged, and the same seed fails again.
        return StatusError(
            grpc.StatusCode.ABORTED,
            f"the model's reply is malformed ({_cut(str(error))}); try another seed, other words or REASONING_OFF",
            reason("MALFORMED_REPLY"),
            about(request_id),
        )
    if isinstance(error, QualityError):
        info = reason(
            "BELOW_MIN_QUALITY", score=f"{error.report.score:.3f}", weakest_measure=error.report.weakest_measure
        )
        return StatusError(grpc.StatusCode.ABORTED, str(error), info, about(request_id))
    if isinstance(error, BundleError):
        logger.error("call %s: %s", request_id, error)
        return StatusError(grpc.StatusCode.INTERNAL, str(error), reason("BROKEN_BUNDLE"), about(request_id))
    logger.error("call %s: internal error", request_id, exc_info=error)
    message = f"internal error; the server's log has it under request id {request_id}"
    return StatusError(grpc.StatusCode.INTERNAL, message, reason("INTERNAL"), about(request_id))


def _packed(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


def _cut(text: str) -> str:
    """Trailers hold a few kilobytes, a model's reply may hold more."""
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}..."
