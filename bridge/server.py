"""Runs the bridge: gRPC on one port, gRPC-Web on another, both on the loopback interface."""

import asyncio
import contextlib
import errno
import logging
import math
import os
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
from aiohttp import web

from bridge.grpc_server import OPTIONS, add_services
from bridge.service import MotionService
from bridge.stream import MotionModel
from bridge.web import application
from python_core.contract.bundle import BundleError

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
DEFAULT_BUNDLE = Path(__file__).parent / "default_bundle"


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """How a server runs."""

    bundle: Path = DEFAULT_BUNDLE
    """Folder that python -m export wrote."""

    port: int = 50051
    """gRPC; 0 picks a free one."""

    web_port: int | None = 50052
    """gRPC-Web over HTTP/1.1; 0 picks a free one, None serves none."""

    provider: str = "auto"
    """Where ONNX Runtime runs: auto, cpu, cuda or tensorrt."""

    num_threads: int = 1
    """Threads of one step of a graph; 0 is one a core. Streams run side by side, so one each is best for many."""

    max_streams: int = 10
    """Streams at once; one more is refused with RESOURCE_EXHAUSTED."""

    max_duration_s: float = 10.0
    """Longest motion that a request may ask for."""

    grace_s: float = 10.0
    """How long running streams may go on after SIGTERM or SIGINT."""


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    model_id: str
    provider: str
    """Of the language model, as ONNX Runtime names it."""
    grpc_address: str
    """Of gRPC, HOST:PORT."""
    web_address: str | None
    """Of gRPC-Web, HOST:PORT."""


def check_port(port: int, option: str) -> None:
    """See whether a port can be had.

    Args:
        port: 0 always can.
        option: The option that chooses it, for the error.

    Raises:
        ValueError: It is in use, or not ours to use.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"{option} must be 0 to 65535, got {port}")
    with socket.socket() as probe:
        if os.name == "posix":  # As the servers do, TIME_WAIT is not in use; elsewhere the option means to share.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen()
        except OSError as error:
            reason = {errno.EADDRINUSE: "is in use", errno.EACCES: "needs more rights"}.get(
                error.errno or 0, str(error)
            )
            raise ValueError(
                f"port {port} on {HOST} {reason}; stop what uses it, "
                f"or choose another with {option} (0 picks a free one)"
            ) from error


def check_bundle_exists(folder: Path) -> None:
    """Refuse a folder that is not there, and say how to get a bundle.

    Raises:
        BundleError: There is no such folder.
    """
    if not folder.is_dir():
        raise BundleError(
            f"{folder}: no bundle there; name one (python -m bridge serve BUNDLE) "
            "or make one from a checkpoint with python -m export CHECKPOINT BUNDLE"
        )


async def serve(config: ServeConfig, started: Callable[[Running], None], stopping: asyncio.Event) -> None:
    """Serve until `stopping` is set, then let running streams end within `grace_s`.

    Args:
        config: How.
        started: Called once, when requests are answered.
        stopping: Ends the server.

    Raises:
        ValueError: A port is in use, the bundle does not verify, the provider does not load.
    """
    check_port(config.port, "--port")
    if config.web_port is not None:
        check_port(config.web_port, "--web-port")
    if config.web_port == config.port != 0:
        raise ValueError(f"--port and --web-port must differ, both are {config.port}")
    if config.max_streams < 1:
        raise ValueError(f"--max-streams must be 1 or more, got {config.max_streams}")
    if config.num_threads < 0:
        raise ValueError(f"--threads must be 0 (one a core) or more, got {config.num_threads}")
    if not 0 <= config.grace_s < math.inf:
        raise ValueError(f"--grace-s must be a number of seconds, 0 or more, got {config.grace_s:g}")
    check_bundle_exists(config.bundle)
    model = await asyncio.to_thread(_load, config)
    if not model.code_duration_s <= config.max_duration_s < math.inf:
        raise ValueError(
            f"--max-duration-s must be a number of seconds, {model.code_duration_s:g} or more, "
            f"got {config.max_duration_s:g}"
        )
    service = MotionService(model, config.max_duration_s, config.max_streams)
    server = grpc.aio.server(options=OPTIONS)
    health = await add_services(server, service)
    runner = web.AppRunner(
        application(service), handler_cancellation=True, access_log=None, shutdown_timeout=config.grace_s
    )
    await runner.setup()
    try:
        port = _bind(server, config.port)
        await server.start()
        web_port = await _start_web(runner, config.web_port) if config.web_port is not None else None
        started(
            Running(
                model_id=model.bundle.manifest.model_id,
                provider=model.engine.provider,
                grpc_address=f"{HOST}:{port}",
                web_address=None if web_port is None else f"{HOST}:{web_port}",
            )
        )
        await stopping.wait()
        logger.info("stopping; %d streams have %g s to end", service.num_streams, config.grace_s)
        await health.enter_graceful_shutdown()
    finally:
        await asyncio.gather(server.stop(config.grace_s), runner.cleanup())
        service.close()


@contextlib.contextmanager
def running(config: ServeConfig) -> Iterator[Running]:
    """Run a server in a thread of this process for as long as the context lasts.

    Raises:
        ValueError: What `serve` raises before it answers.
    """
    outcome: queue.SimpleQueue[Running | BaseException] = queue.SimpleQueue()
    loop = asyncio.new_event_loop()
    stopping = asyncio.Event()

    def run() -> None:
        try:
            loop.run_until_complete(serve(config, outcome.put, stopping))
        except BaseException as error:
            outcome.put(error)
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    thread = threading.Thread(target=run, name="server")
    thread.start()
    try:
        started = outcome.get()
        if isinstance(started, BaseException):
            raise started
        yield started
    finally:
        with contextlib.suppress(RuntimeError):  # The loop is closed already: the server did not start.
            loop.call_soon_threadsafe(stopping.set)
        thread.join()


def _load(config: ServeConfig) -> MotionModel:
    model = MotionModel(config.bundle, config.provider, config.num_threads)
    model.warm_up()
    return model


def _bind(server: grpc.aio.Server, port: int) -> int:
    try:
        return server.add_insecure_port(f"{HOST}:{port}")
    except RuntimeError as error:
        raise ValueError(
            f"port {port} on {HOST} was taken meanwhile ({error}); choose another with --port (0 picks a free one)"
        ) from error


async def _start_web(runner: web.AppRunner, port: int) -> int:
    site = web.TCPSite(runner, HOST, port)
    try:
        await site.start()
    except OSError as error:
        raise ValueError(
            f"port {port} on {HOST} was taken meanwhile ({error}); choose another with --web-port (0 picks a free one)"
        ) from error
    return runner.addresses[0][1]
