"""One call of a client, and what answers it over whatever transport it comes."""

import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import grpc
from google.protobuf.message import Message

from bridge.metrics import Metrics

TRACE_HEADERS = ("traceparent", "tracestate")
"""What a client sends that is traced itself.

Source: W3C Trace Context.
"""


@dataclass(frozen=True)
class Moment:
    """Something that happened in a call."""

    name: str
    at_ns: int
    """Since 1970, as traces count."""
    numbers: Mapping[str, int]


@dataclass(eq=False)
class Call:
    """What log and traces tell of a call: no word of its prompt, but for `ended` where prompts are logged."""

    method: str
    caller: str = ""
    """Whose token it came with; empty where none is needed."""
    trace: Mapping[str, str] = field(default_factory=dict)
    """Those of TRACE_HEADERS that it came with."""
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    began_s: float = field(default_factory=time.monotonic)
    began_ns: int = field(default_factory=time.time_ns)
    num_chunks: int = 0
    ended: str = "cancelled"
    """For the log."""
    code: grpc.StatusCode = grpc.StatusCode.OK
    moments: list[Moment] = field(default_factory=list)

    def note(self, name: str, **numbers: int) -> None:
        """Something happens now."""
        self.moments.append(Moment(name, time.time_ns(), numbers))


@dataclass(frozen=True)
class Served:
    """What a service answers with."""

    model_id: str
    revision: str
    provider: str
    """Of the language model, as ONNX Runtime names it."""
    tokens_per_code: int
    """That it writes."""


class Service(Protocol):
    """The rpcs: messages in, messages out, failures as a `StatusError`."""

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the rpcs."""
        ...

    @property
    def metrics(self) -> Metrics:
        """What counts."""
        ...

    @property
    def num_streams(self) -> int:
        """Streams that are running."""
        ...

    async def load(self) -> Served:
        """Be ready to answer, or to answer with what has taken the bundle's place; running streams go on.

        Raises:
            ValueError: It cannot; whatever was ready stays so.
        """
        ...

    def call(
        self, method: str, data: bytes, caller: str = "", trace: Mapping[str, str] | None = None
    ) -> AsyncGenerator[Message]:
        """The responses of an rpc. Closing or cancelling them stops the work within one step.

        Args:
            method: Name of the rpc.
            data: The request, serialised.
            caller: Whose token it came with, for the log.
            trace: Those of TRACE_HEADERS that it came with.

        Raises:
            StatusError: The call failed, at once or while iterating; nothing else leaves here but cancellation.
        """
        ...

    def drain(self) -> None:
        """Take no new calls; running ones go on."""
        ...

    def close(self) -> None:
        """Let go of what answers; call it when no stream runs."""
        ...
