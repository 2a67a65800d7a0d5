"""MotionService over gRPC, with health and reflection."""

from contextlib import aclosing

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from bridge.service import SERVICE, MotionService, StatusError

MAX_REQUEST_BYTES = 64 * 1024
OPTIONS = (
    ("grpc.so_reuseport", 0),  # By default two servers share a port without a word, and calls go to either.
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
)


async def add_services(server: grpc.aio.Server, service: MotionService) -> health.aio.HealthServicer:  # pyright: ignore[reportAttributeAccessIssue], set on import
    """Add MotionService, health (SERVING for the server and the service) and reflection."""
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, _handlers(service))])
    health_servicer = health.aio.HealthServicer()  # pyright: ignore[reportAttributeAccessIssue], set on import
    for name in ("", SERVICE):
        await health_servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    return health_servicer


def _handlers(service: MotionService) -> dict[str, grpc.RpcMethodHandler]:
    """Handlers that get requests as bytes: gRPC itself answers bytes that are no request with a Python exception."""

    async def get_model(data: bytes, context: grpc.aio.ServicerContext) -> Message | None:
        try:
            return await anext(service.call("GetModel", data))
        except StatusError as error:
            await _abort(error, context)

    async def stream_motion(data: bytes, context: grpc.aio.ServicerContext) -> None:
        try:
            async with aclosing(service.call("StreamMotion", data)) as responses:
                async for response in responses:
                    await context.write(response)
        except StatusError as error:
            await _abort(error, context)

    return {
        "GetModel": grpc.unary_unary_rpc_method_handler(get_model, response_serializer=_serialize),
        "StreamMotion": grpc.unary_stream_rpc_method_handler(stream_motion, response_serializer=_serialize),
    }


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


async def _abort(error: StatusError, context: grpc.aio.ServicerContext) -> None:
    status = rpc_status.to_status(error.proto())
    await context.abort(status.code, status.details, status.trailing_metadata)
