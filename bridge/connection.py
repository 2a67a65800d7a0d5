"""Where bridges are, how a client proves who it is, and which of them it asks next when one does not answer.

Nothing in here waits: the clients of threads and of asyncio do, each in its own way.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from grpc.experimental import ChannelOptions
from grpc_status import rpc_status

from bridge.stubs import motion_pb2, motion_pb2_grpc
from bridge.track import Request, Track

PATIENCE_S = 10.0
"""How long a stream that broke is asked for again."""
MODEL_TIMEOUT_S = 10.0
"""How long a server may take to say what it runs."""
_PAUSE_S = 0.1
"""Between two rounds of asking every server."""
OPTIONS = (
    # A server that comes back is found again within a second, not after two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5000),  # In truth the time that an attempt may take.
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A new client tries at once, whatever happened to another one of the same process.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)
# Whoever reads a stream receives it in its own thread, without a second one between it and the network.
SYNC_OPTIONS = (*OPTIONS, (ChannelOptions.SingleThreadedUnaryStream, 1))


@dataclass(frozen=True)
class Connection:
    """Servers that may answer for one another, and what they ask of a client.

    Raises:
        ValueError: No address; a certificate without its key, or without TLS.
    """

    addresses: tuple[str, ...]
    """HOST:PORT each; the next one is asked where one does not answer."""
    token: str = field(default="", repr=False)
    """Bearer token; empty for servers that ask for none."""
    tls_ca: Path | None = None
    """PEM file of the roots that the servers' certificates come from; None connects without TLS."""
    tls_certificate: Path | None = None
    """PEM file of the client's own certificate, for mutual TLS."""
    tls_key: Path | None = None
    """PEM file of its key."""

    def __post_init__(self) -> None:
        if not self.addresses:
            raise ValueError("a client needs an address, for example 127.0.0.1:50051")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together; give both, or none")
        if self.tls_certificate is not None and self.tls_ca is None:
            raise ValueError("a client's certificate needs TLS; give tls_ca as well")

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with each call."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def channels(self) -> list[grpc.Channel]:
        """A channel for each address."""
        credentials = self._credentials()
        if credentials is None:
            return [grpc.insecure_channel(address, options=SYNC_OPTIONS) for address in self.addresses]
        return [grpc.secure_channel(address, credentials, options=SYNC_OPTIONS) for address in self.addresses]

    def async_channels(self) -> list[grpc.aio.Channel]:
        """A channel of asyncio for each address."""
        credentials = self._credentials()
        if credentials is None:
            return [grpc.aio.insecure_channel(address, options=OPTIONS) for address in self.addresses]
        return [grpc.aio.secure_channel(address, credentials, options=OPTIONS) for address in self.addresses]

    def _credentials(self) -> grpc.ChannelCredentials | None:
        if self.tls_ca is None:
            return None
        return grpc.ssl_channel_credentials(
            self.tls_ca.read_bytes(),
            None if self.tls_key is None else self.tls_key.read_bytes(),
            None if self.tls_certificate is None else self.tls_certificate.read_bytes(),
        )


class CallError(ValueError):
    """A call that the server refused or could not finish."""

    def __init__(self, address: str, error: grpc.Call | grpc.aio.AioRpcError) -> None:
        self.code: grpc.StatusCode = error.code()
        """Why."""
        self.retry_delay_s = _retry_delay_s(error)
        """When the server may be asked again; None where it does not say."""
        remedy = "; is the bridge running there?" if self.code is grpc.StatusCode.UNAVAILABLE else ""
        super().__init__(f"{address}: {self.code.name}: {error.details() or ''}{remedy}")


class Servers:
    """The servers of a connection. One of them is asked, until it is another one's turn.

    Calls are those of the channels, which are of threads or of asyncio.
    """

    def __init__(self, connection: Connection, channels: Sequence[grpc.Channel | grpc.aio.Channel]) -> None:
        self._addresses, self._metadata = connection.addresses, connection.metadata
        self._stubs = [motion_pb2_grpc.MotionServiceStub(channel) for channel in channels]
        self._turn = 0
        self.closed = False
        """Whether the client has closed its channels, which cancels its calls; nobody is asked any more."""

    def __len__(self) -> int:
        return len(self._stubs)

    @property
    def address(self) -> str:
        """Of the server whose turn it is."""
        return self._addresses[self._turn]

    def take_turns(self) -> None:
        """Let the next one be asked."""
        self._turn = (self._turn + 1) % len(self)

    def get_model(self, timeout_s: float = MODEL_TIMEOUT_S):
        """Begin the call."""
        return self._stub.GetModel(motion_pb2.GetModelRequest(), timeout=timeout_s, metadata=self._metadata)

    def plan(self, request: motion_pb2.PlanMotionRequest, timeout_s: float | None):
        """Begin the call."""
        return self._stub.PlanMotion(request, timeout=timeout_s, metadata=self._metadata)

    def stream(self, request: Request, timeout_s: float | None):
        """Begin the call that a request of either kind is for."""
        decodes = isinstance(request, motion_pb2.DecodeMotionRequest)
        begin = self._stub.DecodeMotion if decodes else self._stub.StreamMotion
        return begin(request, timeout=timeout_s, metadata=self._metadata)

    @property
    def _stub(self) -> motion_pb2_grpc.MotionServiceStub:
        return self._stubs[self._turn]


class Attempts:
    """Whether a call that failed is made again: a new one once on every server, one that broke until patience ends."""

    def __init__(self, servers: Servers, patience_s: float) -> None:
        self._servers, self._patience_s = servers, patience_s
        self._num_failed, self._failing_since_s = 0, 0.0

    def succeed(self) -> None:
        """Note that something new came."""
        self._num_failed = 0

    def fail(self, error: grpc.RpcError, broke: bool = False) -> float:
        """Note a failure. Only a server that is away, lost, full or draining makes it another one's turn.

        Returns:
            Seconds to wait before the next attempt: none before every server was asked.

        Raises:
            CallError: There is no next attempt.
        """
        assert isinstance(error, grpc.Call | grpc.aio.AioRpcError)
        now_s = time.monotonic()
        if not self._num_failed:
            self._failing_since_s = now_s
        self._num_failed += 1
        is_others_turn = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
        is_others_turn |= is_reset(error)
        is_others_turn &= not self._servers.closed
        has_patience = now_s - self._failing_since_s < self._patience_s
        if not is_others_turn or not (has_patience if broke else self._num_failed < len(self._servers)):
            raise CallError(self._servers.address, error) from error
        self._servers.take_turns()
        return 0.0 if self._num_failed % len(self._servers) else _PAUSE_S


def _retry_delay_s(error: grpc.Call | grpc.aio.AioRpcError) -> float | None:
    try:
        status = rpc_status.from_call(error)  # pyright: ignore[reportArgumentType], it reads what both have
        for detail in status.details if status is not None else ():
            info = error_details_pb2.RetryInfo()
            if detail.Unpack(info):
                return info.retry_delay.ToTimedelta().total_seconds()
    except (DecodeError, ValueError):
        pass  # Details that a proxy has broken; the error itself must reach whoever called.
    return None


def is_reset(error: grpc.Call | grpc.aio.AioRpcError) -> bool:
    """Whether a call was broken off, not answered: a proxy whose server dies resets it, which gRPC calls INTERNAL, and
    gRPC's own server gives CANCELLED to what reaches it in the moment it stops, or runs when its grace period ends.
    When a server of ours says INTERNAL, it sends details with it; CANCELLED it never says.

    Source: https://github.com/grpc/grpc/issues/41785
    """
    metadata = error.trailing_metadata() or ()
    broken_off = error.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.CANCELLED)
    return broken_off and all(key != "grpc-status-details-bin" for key, _ in metadata)


class StreamCalls:
    """The calls that make one stream: the first, and another one each time that it breaks.

    Args:
        servers: Who is asked.
        track: What has come so far.
        timeout_s: Of all calls together.
        patience_s: How long a stream that broke is asked for again.
        resumes: The track has begun before.
    """

    def __init__(
        self, servers: Servers, track: Track, timeout_s: float | None, patience_s: float, resumes: bool
    ) -> None:
        self._servers, self._track = servers, track
        self._ends_s = None if timeout_s is None else time.monotonic() + timeout_s
        self._attempts = Attempts(servers, patience_s)
        self.resumes = resumes
        """Whether the next call is for what is missing, which takes the limits of the server that is asked."""

    def start(self, limits: motion_pb2.Limits | None):
        """Begin the next call; None if nothing is missing but the summary.

        Args:
            limits: The server's, where the call resumes.
        """
        left_s = None if self._ends_s is None else max(0.0, self._ends_s - time.monotonic())
        if limits is None:
            return self._servers.stream(self._track.request, left_s)
        request = self._track.rest(limits.max_duration_s)
        if request is None:
            return None
        self._track.resume(request)
        return self._servers.stream(request, left_s)

    def feed(
        self, response: motion_pb2.StreamMotionResponse | motion_pb2.DecodeMotionResponse
    ) -> motion_pb2.MotionEvent | None:
        """Take in what came; the event as `Track.feed` gives it.

        Raises:
            StreamError: It is out of order, or comes from another bundle.
        """
        event = self._track.feed(response.event)
        if event is not None:  # Another header is no progress: a server may die of this very request each time.
            self._attempts.succeed()
        return event

    def fail(self, error: grpc.RpcError) -> float:
        """Note that the call failed; seconds to wait before the next one.

        Raises:
            CallError: There is no next one.
        """
        self.resumes = self._track.header is not None
        return self._attempts.fail(error, broke=self.resumes)
