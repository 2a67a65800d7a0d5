"""What happens to every gRPC call before and after its handler: who calls, and how it ended."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

import grpc
from grpc_health.v1 import health
from grpc_status import rpc_status

from bridge.metrics import Metrics
from bridge.status import StatusError
from bridge.tokens import Tokens

caller: ContextVar[str] = ContextVar("caller", default="")
"""Whose token the current call came with; empty where none is asked for."""

_Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler | None]]
_Behaviour = Callable[[object, grpc.aio.ServicerContext], Awaitable[object]]


async def abort(error: StatusError, context: grpc.aio.ServicerContext) -> None:
    """End a call with a status and its details."""
    status = rpc_status.to_status(error.proto())
    await context.abort(status.code, status.details, status.trailing_metadata)


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Refuses calls without a known token. Health stays open: balancers have none."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def intercept_service(
        self, continuation: _Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        """Find out who calls."""
        handler = await continuation(handler_call_details)
        # A method that there is not needs no token: names that anybody makes up must not become names of metrics.
        if handler is None or handler_call_details.method.startswith(f"/{health.SERVICE_NAME}/"):
            return handler
        metadata = dict(handler_call_details.invocation_metadata or ())
        try:
            caller.set(self._tokens.name(str(metadata.get("authorization", ""))))
        except StatusError as error:
            return _refusal(error, handler)
        return handler


class CountingInterceptor(grpc.aio.ServerInterceptor):
    """Counts calls by method and status when they end; those of methods that nobody serves by one name."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def intercept_service(
        self, continuation: _Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        """Wrap the handler, if it is a coroutine: those of reflection, which is no part of the service, are not."""
        handler = await continuation(handler_call_details)
        if handler is None:
            self._count("unknown", grpc.StatusCode.UNIMPLEMENTED)
            return None
        method = handler_call_details.method.rpartition("/")[2]
        if inspect.iscoroutinefunction(handler.unary_unary):
            return grpc.unary_unary_rpc_method_handler(
                self._counted(handler.unary_unary, method), handler.request_deserializer, handler.response_serializer
            )
        if inspect.iscoroutinefunction(handler.unary_stream):
            return grpc.unary_stream_rpc_method_handler(
                self._counted(handler.unary_stream, method), handler.request_deserializer, handler.response_serializer
            )
        return handler

    def _counted(self, behaviour: _Behaviour, method: str) -> _Behaviour:
        async def run(request: object, context: grpc.aio.ServicerContext) -> object:
            code = grpc.StatusCode.OK
            try:
                return await behaviour(request, context)
            except asyncio.CancelledError:
                left_s = context.time_remaining()
                late = left_s is not None and left_s <= 0
                code = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
                raise
            except BaseException:
                code = _status(context)
                raise
            finally:
                self._count(method, code)

        return run

    def _count(self, method: str, code: grpc.StatusCode) -> None:
        self._metrics.calls.labels("grpc", method, code.name).inc()


def _status(context: grpc.aio.ServicerContext) -> grpc.StatusCode:
    """What an aborted call ends with; gRPC has it as a number here, as a code there."""
    code: object = context.code()
    number = code.value[0] if isinstance(code, grpc.StatusCode) else code
    return next((known for known in grpc.StatusCode if known.value[0] == number), grpc.StatusCode.UNKNOWN)


def _refusal(error: StatusError, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
    """A handler of the kind that the method has, or the client would wait for another end of the call."""

    async def refuse(_: object, context: grpc.aio.ServicerContext) -> None:
        await abort(error, context)

    if not handler.response_streaming:
        return grpc.unary_unary_rpc_method_handler(refuse)
    if handler.request_streaming:
        return grpc.stream_stream_rpc_method_handler(refuse)
    return grpc.unary_stream_rpc_method_handler(refuse)
