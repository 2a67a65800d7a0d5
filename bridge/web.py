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
from contextlib import aclosing
from dataclasses import dataclass

import grpc
from aiohttp import web

from bridge.call import TRACE_HEADERS, Service
from bridge.config import MAX_REQUEST_BYTES
from bridge.grpc_server import idle
from bridge.status import SERVICE, StatusError, reason
from bridge.tokens import Tokens

CONTENT_TYPE = "application/grpc-web+proto"
CONTENT_TYPES = ("application/grpc-web", CONTENT_TYPE)
DATA, TRAILERS = 0x00, 0x80
CORS = {
    "Access-Control-Allow-Methods": "POST",
    "Access-Control-Allow-Headers": "authorization, content-type, grpc-timeout, x-grpc-web, x-user-agent",
    "Access-Control-Expose-Headers": "grpc-status, grpc-message, grpc-status-details-bin",
    "Access-Control-Max-Age": "86400",
}

_PREFIX = struct.Struct(">BI")
_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])")
_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


def application(
    service: Service, tokens: Tokens | None, cors_origins: tuple[str, ...], max_idle_s: float
) -> web.Application:
    """An aiohttp application that answers the rpcs; run it with `handler_cancellation`, so that a client that leaves
    cancels its call.

    Args:
        service: What answers.
        tokens: Who may call; None is everybody.
        cors_origins: Origins whose pages may call; `*` is any.
        max_idle_s: A call whose client sends nothing or takes nothing for so long is ended.
    """
    gate = _Gate(service, tokens, cors_origins, max_idle_s)
    app = web.Application(client_max_size=MAX_REQUEST_BYTES + _PREFIX.size)
    app.router.add_post(f"/{SERVICE}/{{method}}", gate.answer)
    app.router.add_options(f"/{SERVICE}/{{method}}", gate.preflight)
    return app


@dataclass(frozen=True)
class _Gate:
    """Answers HTTP requests."""

    service: Service
    tokens: Tokens | None
    cors_origins: tuple[str, ...]
    max_idle_s: float

    async def preflight(self, request: web.Request) -> web.Response:
        """Tell a browser whether a page may call."""
        return web.Response(status=204, headers=self._cors(request))

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Run a call to its end; whatever that is, it is counted."""
        code = grpc.StatusCode.CANCELLED
        try:
            response, code = await self._answer(request)
            return response
        finally:
            method = request.match_info["method"]
            known = method if method in self.service.methods else "unknown"
            self.service.metrics.calls.labels("grpc-web", known, code.name).inc()

    async def _answer(self, request: web.Request) -> tuple[web.StreamResponse, grpc.StatusCode]:
        cors = self._cors(request)
        if request.content_type not in CONTENT_TYPES:
            text = f"expected content-type {CONTENT_TYPE}, got {request.content_type}\n"
            return web.Response(status=415, text=text, headers=cors), grpc.StatusCode.INVALID_ARGUMENT
        response: web.StreamResponse | None = None
        code, trailers = grpc.StatusCode.OK, _trailers(grpc.StatusCode.OK)
        takes_nothing = False
        try:
            async with asyncio.timeout(_timeout_s(request)):
                caller = self.tokens.name(request.headers.get("authorization")) if self.tokens is not None else ""
                data, method = await _read_frame(request, self.max_idle_s), request.match_info["method"]
                trace = {name: request.headers[name] for name in TRACE_HEADERS if name in request.headers}
                async with aclosing(self.service.call(method, data, caller, trace)) as messages:
                    async for message in messages:
                        if response is None:
                            response = web.StreamResponse(headers={**cors, "Content-Type": CONTENT_TYPE})
                            await response.prepare(request)
                        try:
                            await self._write(response, frame(DATA, message.SerializeToString()))
                        except StatusError as error:
                            takes_nothing = True
                            await messages.athrow(error)  # So that the call tells of it as its end.
        except StatusError as error:
            code, trailers = error.code, _trailers(error.code, error.message, error.proto().SerializeToString())
        except ConnectionResetError:
            code = grpc.StatusCode.CANCELLED
            trailers = _trailers(code, "the client has left")
        except TimeoutError:
            code = grpc.StatusCode.DEADLINE_EXCEEDED
            trailers = _trailers(code, "the call's grpc-timeout has passed")
        if response is None:
            return web.Response(headers={**cors, "Content-Type": CONTENT_TYPE, **trailers}), code
        lines = "".join(f"{name}: {value}\r\n" for name, value in trailers.items())
        try:
            if takes_nothing:
                raise TimeoutError  # Nor would it take the status.
            async with asyncio.timeout(self.max_idle_s):
                await response.write_eof(frame(TRAILERS, lines.encode("ascii")))
        except (ConnectionResetError, TimeoutError):  # The client has left or does not read; nobody is there to tell.
            if request.transport is not None:
                request.transport.abort()
        return response, code

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        try:
            async with asyncio.timeout(self.max_idle_s):
                await response.write(data)
        except TimeoutError as error:
            raise idle(self.max_idle_s) from error

    def _cors(self, request: web.Request) -> dict[str, str]:
        """Headers that let a page of an allowed origin read the answer; none for other pages."""
        origin = request.headers.get("origin")
        if origin is None or not ({origin, "*"} & set(self.cors_origins)):
            return {}
        return {"Access-Control-Allow-Origin": origin, "Vary": "Origin", **CORS}


def frame(flag: int, payload: bytes) -> bytes:
    """One frame of a body."""
    return _PREFIX.pack(flag, len(payload)) + payload


async def _read_frame(request: web.Request, max_idle_s: float) -> bytes:
    """The one message of a request."""
    try:
        async with asyncio.timeout(max_idle_s):
            body = await request.read()
    except TimeoutError as error:
        raise StatusError(
            grpc.StatusCode.ABORTED, f"the request has not come within {max_idle_s:g} s", reason("CLIENT_IDLE")
        ) from error
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
