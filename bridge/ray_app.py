"""The rpcs on Ray Serve: replicas that make motions anywhere in a cluster, and what answers clients for all of them.

    serve run bridge.ray_app:app bundle=/models/walk max_replicas=8      once for a cluster
    python -m bridge serve --ray auto                                    on each node that clients call

Ray starts replicas, scales them with the streams that run, replaces those that die. Clients are answered by our own
server, with all that it does at its edge (health, tokens, TLS, gRPC-Web, typed errors). Ray's gRPC proxy would lose the
details of errors in streams, and tell of a replica that dies as INTERNAL, which clients do not repeat.
"""

import asyncio
import dataclasses
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import Message
from google.rpc import status_pb2

from bridge.call import Call, Served
from bridge.config import DEFAULT_BUNDLE, ServeConfig
from bridge.metrics import Metrics, StreamCounts
from bridge.service import MotionService, check_method, open_model, read_message
from bridge.status import RETRY_DELAY_S, StatusError, reason, retry_after, to_status, unavailable
from bridge.stubs import motion_pb2
from bridge.traces import export

if TYPE_CHECKING:
    from ray.serve import Application
    from ray.serve.handle import DeploymentHandle

logger = logging.getLogger(__name__)

APP = "motion-r1"
"""What the application is called in the cluster: serve run --name."""
DESCRIBE_S = 1.0
"""How long a replica may take to say what it serves, before its last answer is given."""

_Response = motion_pb2.PlanMotionResponse | motion_pb2.StreamMotionResponse | motion_pb2.DecodeMotionResponse
STREAMS: dict[str, tuple[type[Message], type[_Response]]] = {
    "PlanMotion": (motion_pb2.PlanMotionRequest, motion_pb2.PlanMotionResponse),
    "StreamMotion": (motion_pb2.StreamMotionRequest, motion_pb2.StreamMotionResponse),
    "DecodeMotion": (motion_pb2.DecodeMotionRequest, motion_pb2.DecodeMotionResponse),
}
"""Request and response of the rpcs that take a place."""


@dataclass(frozen=True, kw_only=True)
class AppConfig:
    """What `serve run bridge.ray_app:app NAME=VALUE ...` takes, or `args` of a config file."""

    bundle: str = str(DEFAULT_BUNDLE)
    """Folder of the bundle, at the same place on every node."""
    provider: str = ServeConfig.provider
    """As of `serve`."""
    num_threads: int = ServeConfig.num_threads
    """As `serve --threads`."""
    max_streams: int = ServeConfig.max_streams
    """Streams of one replica at once."""
    max_duration_s: float = ServeConfig.max_duration_s
    """Longest motion that a request may ask for."""
    min_replicas: int = 1
    """Replicas that run whatever is asked for."""
    max_replicas: int = 4
    """Replicas at most."""
    num_cpus: float = 1.0
    """Cores that Ray keeps for a replica."""
    num_gpus: float = 0.0
    """GPUs that Ray keeps for a replica."""
    grace_s: float = ServeConfig.grace_s
    """How long the streams of a replica may go on that is taken away."""
    log_prompts: int = 0
    """1 writes prompts, and messages that quote them, to the replicas' log."""
    traces: int = 0
    """1 writes a span of each call, as `serve --traces`."""

    @staticmethod
    def read(arguments: Mapping[str, Any]) -> "AppConfig":
        """From what Ray passes on; a command line's values are text.

        Raises:
            ValueError: An argument is unknown, or no number where one is expected.
        """
        kinds = {field.name: type(field.default) for field in dataclasses.fields(AppConfig)}
        values = {}
        for name, value in arguments.items():
            if name not in kinds:
                raise ValueError(f"{name}: unknown; the arguments of bridge.ray_app:app are {', '.join(kinds)}")
            try:
                values[name] = kinds[name](value)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{name} must be {kinds[name].__name__}, got {value!r}") from error
        config = AppConfig(**values)
        if not 1 <= config.min_replicas <= config.max_replicas:
            raise ValueError(
                f"min_replicas must be 1 or more and at most max_replicas, "
                f"got {config.min_replicas} and {config.max_replicas}"
            )
        config.serve_config().check()
        return config

    def serve_config(self) -> ServeConfig:
        """The same for the service of a replica."""
        return ServeConfig(
            bundle=Path(self.bundle),
            provider=self.provider,
            num_threads=self.num_threads,
            max_streams=self.max_streams,
            max_duration_s=self.max_duration_s,
            log_prompts=bool(self.log_prompts),
            traces=bool(self.traces),
        )


def app(arguments: dict[str, Any]) -> "Application":
    """The application that Ray Serve runs.

    Raises:
        ValueError: An argument is unknown or cannot work; Ray is missing.
    """
    config = AppConfig.read(arguments)
    serve = _ray().serve
    deployment = serve.deployment(
        Replica,
        name="Replica",
        max_ongoing_requests=config.max_streams,
        autoscaling_config={
            "min_replicas": config.min_replicas,
            "max_replicas": config.max_replicas,
            # So that a new replica is ready before the others are full.
            "target_ongoing_requests": max(1.0, 0.7 * config.max_streams),
        },
        graceful_shutdown_timeout_s=config.grace_s,
        ray_actor_options={"num_cpus": config.num_cpus, "num_gpus": config.num_gpus},
    )
    return deployment.bind(config)


class Replica:
    """A model, and the rpcs over it; Ray makes as many as are needed."""

    def __init__(self, config: AppConfig) -> None:
        if config.traces:
            export()
        self._service = MotionService(config.serve_config(), Metrics())
        self._served = self._service.replace(open_model(config.serve_config()))

    async def describe(self) -> tuple[Served, bytes]:
        """What it serves, and its answer to GetModel."""
        async with aclosing(self._service.call("GetModel", b"")) as responses:
            return self._served, (await anext(responses)).SerializeToString()

    async def call(
        self, method: str, data: bytes, caller: str, trace: Mapping[str, str]
    ) -> AsyncGenerator[tuple[str, bytes]]:
        """What an rpc answers, serialised: `place` once there is one for the call, each `response`, or a `status`."""
        yield "place", b""
        try:
            async with aclosing(self._service.call(method, data, caller, trace)) as responses:
                async for response in responses:
                    yield "response", response.SerializeToString()
        except StatusError as error:
            yield "status", error.proto().SerializeToString()


class RayService:
    """A `Service` whose calls are answered by the replicas of a cluster.

    Args:
        address: Of the cluster; `auto` is that of this machine.
        max_wait_s: How long a call waits for a replica that has a place.
        metrics: What counts, but for the rows of the replicas' batches.

    Raises:
        ValueError: Ray is missing.
    """

    def __init__(self, address: str, max_wait_s: float, metrics: Metrics) -> None:
        self._ray, self._address, self._max_wait_s, self._metrics = _ray(), address, max_wait_s, metrics
        self._handle: DeploymentHandle | None = None
        self._model, self._tokens_per_code = b"", 0
        self._num_streams = 0
        self._draining = False

    @property
    def methods(self) -> tuple[str, ...]:
        """As `Service.methods`."""
        return ("GetModel", *STREAMS)

    @property
    def metrics(self) -> Metrics:
        """As `Service.metrics`."""
        return self._metrics

    @property
    def num_streams(self) -> int:
        """As `Service.num_streams`."""
        return self._num_streams

    async def load(self) -> Served:
        """Find the application in the cluster, wait until a replica runs, and ask it what it serves.

        Raises:
            ValueError: There is no cluster at the address, or no application in it that works.
        """
        try:
            if self._handle is None:
                self._handle = await asyncio.to_thread(self._connect)
            served, self._model = await self._handle.describe.remote()
        except (ConnectionError, self._ray.exceptions.RayError) as error:
            raise ValueError(f"--ray {self._address}: no cluster there ({error}); ray start begins one") from error
        except self._ray.serve.exceptions.RayServeException as error:
            raise ValueError(
                f"--ray {self._address}: the cluster has no application {APP} that works ({error}); "
                f"serve run bridge.ray_app:app --name {APP} begins it"
            ) from error
        self._tokens_per_code = served.tokens_per_code
        self._metrics.ready.set(not self._draining)
        return served

    def call(
        self, method: str, data: bytes, caller: str = "", trace: Mapping[str, str] | None = None
    ) -> AsyncGenerator[Message]:
        """As `Service.call`."""
        check_method(method, self.methods)
        if method == "GetModel":
            return self._model_of_a_replica()
        request = read_message(STREAMS[method][0], data)
        counts = StreamCounts(self._metrics, request, self._tokens_per_code, time.monotonic())
        return self._call(method, data, caller, trace or {}, counts)

    def drain(self) -> None:
        """As `Service.drain`."""
        self._draining = True
        self._metrics.ready.set(0)

    def close(self) -> None:
        """Ask the cluster for nothing more; its replicas stay."""
        if self._handle is not None:
            self._handle.shutdown()

    def _connect(self) -> "DeploymentHandle":
        self._ray.init(address=self._address, namespace="serve", log_to_driver=False, ignore_reinit_error=True)
        return self._ray.serve.get_app_handle(APP)

    def _ready(self) -> "DeploymentHandle":
        if self._handle is not None and not self._draining:
            return self._handle
        if self._draining:
            raise unavailable("this server is stopping", "DRAINING")
        raise unavailable("this server is looking for its replicas", "LOADING")

    async def _model_of_a_replica(self) -> AsyncGenerator[Message]:
        """What a replica says that has time to, or said last: a cluster that is full is well, and says so."""
        handle = self._ready()
        with suppress(TimeoutError, *self._lost()):
            async with asyncio.timeout(DESCRIBE_S):
                _, self._model = await handle.describe.remote()
        yield motion_pb2.GetModelResponse.FromString(self._model)

    async def _call(
        self, method: str, data: bytes, caller: str, trace: Mapping[str, str], counts: StreamCounts
    ) -> AsyncGenerator[Message]:
        with self._told(method, counts):
            remote = self._ready().options(stream=True).call.remote
            sent: Any = remote(method, data, caller, dict(trace))
            async with self._place(sent):
                async for kind, payload in sent:
                    if kind == "status":
                        raise StatusError.of(status_pb2.Status.FromString(payload))
                    response = STREAMS[method][1].FromString(payload)
                    counts.sent(response if isinstance(response, motion_pb2.PlanMotionResponse) else response.event)
                    yield response

    @contextmanager
    def _told(self, method: str, counts: StreamCounts) -> Iterator[None]:
        """Turn what fails into a status, and count how the call ends."""
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            if not counts.complete:
                self._metrics.streams_cancelled.inc()
            raise
        except Exception as error:
            if isinstance(error, self._lost()):
                logger.warning("the replica of a call is lost: %s", error)
                status = unavailable("the replica that made this motion is lost", "REPLICA_LOST")
            else:  # What else is of Ray, or what a replica did not expect, has no place on the wire.
                status = to_status(error, Call(method).request_id)
            self._metrics.streams_failed.labels(status.code.name).inc()
            raise status from error

    @asynccontextmanager
    async def _place(self, sent: Any) -> AsyncIterator[None]:
        """A place of a replica, free again when the context ends."""
        self._metrics.queue_length.inc()
        try:
            async with asyncio.timeout(self._max_wait_s):
                await anext(sent)
        except BaseException as error:
            sent.cancel()
            if not isinstance(error, TimeoutError):
                raise
            self._metrics.streams_refused.inc()
            raise StatusError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"no replica of the cluster has had a place for {self._max_wait_s:g} s; try again in "
                f"{RETRY_DELAY_S:g} s, or let it have more replicas",
                retry_after(RETRY_DELAY_S),
                reason("STREAMS_IN_USE"),
            ) from error
        finally:
            self._metrics.queue_length.dec()
        self._metrics.streams_accepted.inc()
        self._count(1)
        try:
            yield
        finally:
            sent.cancel()
            self._count(-1)

    def _count(self, change: int) -> None:
        self._num_streams += change
        self._metrics.streams_active.set(self._num_streams)

    def _lost(self) -> tuple[type[Exception], ...]:
        """What a call gets whose replica or cluster goes away."""
        serve, ray = self._ray.serve.exceptions, self._ray.exceptions
        return (
            ray.RayActorError, ray.TaskCancelledError, ray.RaySystemError,
            serve.DeploymentUnavailableError, serve.ReplicaUnavailableError,
        )  # fmt: skip


def _ray():
    """Ray, with Serve.

    Raises:
        ValueError: It is missing.
    """
    try:
        import ray
        import ray.exceptions
        import ray.serve.exceptions
        from ray import serve
    except ImportError as error:
        raise ValueError(f"Ray Serve is missing ({error}); pip install '.[ray]'") from error
    assert serve
    return ray
