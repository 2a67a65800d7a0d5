"""A `Service` over gRPC, with health and reflection."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from bridge.call import TRACE_HEADERS, Service
from bridge.config import MAX_REQUEST_BYTES
from bridge.interceptors import CountingInterceptor, TokenInterceptor, abort, caller
from bridge.status import SERVICE, StatusError, reason
from bridge.tokens import Tokens

OPTIONS = (
    ("grpc.so_reuseport", 0),  # By default two servers share a port without a word, and calls go to either.
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    # A client whose network has gone away is noticed after 40 s, not after 2 hours; clients may ping as often.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # What is written to a client that does not read stays here; the rest waits in the stream.
    ("grpc.http2.write_buffer_size", MAX_REQUEST_BYTES),
)


def make_server(service: Service, tokens: Tokens | None) -> grpc.aio.Server:
    """A server that asks for tokens, if there are any, and counts."""
    interceptors: list[grpc.aio.ServerInterceptor] = [CountingInterceptor(service.metrics)]
    if tokens is not None:
        interceptors.append(TokenInterceptor(tokens))
    return grpc.aio.server(options=OPTIONS, interceptors=interceptors)


async def add_services(server: grpc.aio.Server, service: Service, max_idle_s: float) -> health.aio.HealthServicer:  # pyright: ignore[reportAttributeAccessIssue], set on import
    """Add the service, health and reflection; `set_serving` says what health answers."""
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, _handlers(service, max_idle_s))])
    health_servicer = health.aio.HealthServicer()  # pyright: ignore[reportAttributeAccessIssue], set on import
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    return health_servicer


async def set_serving(
    servicer: health.aio.HealthServicer,  # pyright: ignore[reportAttributeAccessIssue], set on import
    serving: bool,
) -> None:
    """Tell health, overall and of the service, whether calls are answered."""
    status = health_pb2.HealthCheckResponse
    for name in ("", SERVICE):
        await servicer.set(name, status.SERVING if serving else status.NOT_SERVING)


def idle(max_idle_s: float) -> StatusError:
    """What a client is told that has stopped reading."""
    return StatusError(
        grpc.StatusCode.ABORTED,
        f"the client has taken nothing for {max_idle_s:g} s; read faster, or cancel and go on from the codes later",
        reason("CLIENT_IDLE", max_idle_s=f"{max_idle_s:g}"),
    )


def _handlers(service: Service, max_idle_s: float) -> dict[str, grpc.RpcMethodHandler]:
    """Handlers that get requests as bytes: gRPC itself answers bytes that are no request with a Python exception."""

    def unary(method: str) -> Callable[[bytes, grpc.aio.ServicerContext], Awaitable[Message | None]]:
        async def answer(data: bytes, context: grpc.aio.ServicerContext) -> Message | None:
            try:
                async with aclosing(service.call(method, data, caller.get(), _trace(context))) as responses:
                    return await anext(responses)
            except StatusError as error:
                await abort(error, context)

        return answer

    def stream(method: str) -> Callable[[bytes, grpc.aio.ServicerContext], Awaitable[None]]:
        async def answer(data: bytes, context: grpc.aio.ServicerContext) -> None:
            try:
                async with aclosing(service.call(method, data, caller.get(), _trace(context))) as responses:
                    async for response in responses:
                        try:
                            async with asyncio.timeout(max_idle_s):
                                await context.write(response)
                        except TimeoutError:
                            await responses.athrow(idle(max_idle_s))  # So that the call tells of it as its end.
            except StatusError as error:
                await abort(error, context)

        return answer

    return {
        **{
            name: grpc.unary_unary_rpc_method_handler(unary(name), response_serializer=_serialize)
            for name in ("GetModel", "PlanMotion")
        },
        **{
            name: grpc.unary_stream_rpc_method_handler(stream(name), response_serializer=_serialize)
            for name in ("StreamMotion", "DecodeMotion")
        },
    }


def _trace(context: grpc.aio.ServicerContext) -> dict[str, str]:
    return {key: str(value) for key, value in context.invocation_metadata() or () if key in TRACE_HEADERS}


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()
