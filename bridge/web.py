"""The same rpcs over gRPC-Web (binary), for clients without HTTP/2 and for browsers.

A message is a frame: flag 0x00, length as 4 bytes big-endian, protobuf. The status comes last, in a frame with flag
0x80, or in the headers of a call that fails before its first message.

Source: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md
"""

import asyncio
import base64
import re
import struct
import urllib.parse
from contextlib import aclosing, suppress

import grpc
from aiohttp import web

from bridge.grpc_server import MAX_REQUEST_BYTES
from bridge.service import SERVICE, MotionService, StatusError

CONTENT_TYPE = "application/grpc-web+proto"
CONTENT_TYPES = ("application/grpc-web", CONTENT_TYPE)
DATA, TRAILERS = 0x00, 0x80
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST",
    "Access-Control-Allow-Headers": "authorization, content-type, grpc-timeout, x-grpc-web, x-user-agent",
    "Access-Control-Expose-Headers": "grpc-status, grpc-message, grpc-status-details-bin",
    "Access-Control-Max-Age": "86400",
}

_PREFIX = struct.Struct(">BI")
_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])")
_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


def application(service: MotionService) -> web.Application:
    """An aiohttp application that answers the rpcs; run it with `handler_cancellation`, so that a client that leaves
    cancels its call.
    """

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.content_type not in CONTENT_TYPES:
            text = f"expected content-type {CONTENT_TYPE}, got {request.content_type}\n"
            return web.Response(status=415, text=text, headers=CORS)
        response: web.StreamResponse | None = None
        trailers = _trailers(grpc.StatusCode.OK)
        try:
            async with asyncio.timeout(_timeout_s(request)):
                data = await _read_frame(request)
                async with aclosing(service.call(request.match_info["method"], data)) as messages:
                    async for message in messages:
                        if response is None:
                            response = web.StreamResponse(headers={**CORS, "Content-Type": CONTENT_TYPE})
                            await response.prepare(request)
                        await response.write(frame(DATA, message.SerializeToString()))
        except StatusError as error:
            trailers = _trailers(error.code, error.message, error.proto().SerializeToString())
        except ConnectionResetError:
            trailers = _trailers(grpc.StatusCode.CANCELLED, "the client has left")
        except TimeoutError:
            trailers = _trailers(grpc.StatusCode.DEADLINE_EXCEEDED, "the call's grpc-timeout has passed")
        if response is None:
            return web.Response(headers={**CORS, "Content-Type": CONTENT_TYPE, **trailers})
        lines = "".join(f"{name}: {value}\r\n" for name, value in trailers.items())
        with suppress(ConnectionResetError):  # The client has left; nobody is there to tell.
            await response.write(frame(TRAILERS, lines.encode("ascii")))
            await response.write_eof()
        return response

    async def preflight(_: web.Request) -> web.Response:
        return web.Response(status=204, headers=CORS)

    app = web.Application(client_max_size=MAX_REQUEST_BYTES + _PREFIX.size)
    app.router.add_post(f"/{SERVICE}/{{method}}", answer)
    app.router.add_options(f"/{SERVICE}/{{method}}", preflight)
    return app


def frame(flag: int, payload: bytes) -> bytes:
    """One frame of a body."""
    return _PREFIX.pack(flag, len(payload)) + payload


async def _read_frame(request: web.Request) -> bytes:
    """The one message of a request."""
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise StatusError(
            grpc.StatusCode.RESOURCE_EXHAUSTED, f"a request is at most {MAX_REQUEST_BYTES} bytes; this one is larger"
        ) from error
    if len(body) < _PREFIX.size:
        raise StatusError(grpc.StatusCode.INVALID_ARGUMENT, f"expected one frame, got a body of {len(body)} bytes")
    flag, length = _PREFIX.unpack_from(body)
    if flag != DATA:
        raise StatusError(grpc.StatusCode.UNIMPLEMENTED, f"frame flag {flag:#04x}: requests are not compressed here")
    if length != len(body) - _PREFIX.size:
        raise StatusError(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"expected one frame of {length} bytes, got {len(body) - _PREFIX.size} bytes after its prefix",
        )
    return body[_PREFIX.size :]


def _timeout_s(request: web.Request) -> float | None:
    text = request.headers.get("grpc-timeout")
    if text is None:
        return None
    match = _TIMEOUT.fullmatch(text)
    if match is None:
        raise StatusError(grpc.StatusCode.INVALID_ARGUMENT, f"grpc-timeout: expected for example 10S, got {text!r}")
    return int(match[1]) * _SECONDS[match[2]]


def _trailers(code: grpc.StatusCode, message: str = "", details: bytes = b"") -> dict[str, str]:
    trailers = {"grpc-status": str(code.value[0])}
    if message:
        trailers["grpc-message"] = urllib.parse.quote(message, safe=" !\"#$&'()*+,/:;<=>?@[\\]^`{|}~")
    if details:
        trailers["grpc-status-details-bin"] = base64.b64encode(details).decode("ascii").rstrip("=")
    return trailers
