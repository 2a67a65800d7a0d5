"""Runs the bridge: gRPC, gRPC-Web and metrics on a port each, on the loopback interface unless told otherwise."""

import asyncio
import contextlib
import errno
import logging
import os
import queue
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
from aiohttp import web

from bridge.call import Service
from bridge.certificates import Certificates
from bridge.config import DEFAULT_BUNDLE, LOOPBACK, ServeConfig
from bridge.grpc_server import add_services, make_server, set_serving
from bridge.metrics import Metrics
from bridge.ops import ops_application
from bridge.ray_app import RayService
from bridge.service import MotionService
from bridge.tokens import Tokens
from bridge.web import application
from python_core.contract.bundle import BundleError

__all__ = ["DEFAULT_BUNDLE", "Running", "ServeConfig", "check_bundle_exists", "check_port", "running", "serve"]

logger = logging.getLogger(__name__)

SWITCH_S = 0.0005
"""The thread that steps the model lets the event loop run after so long at most. Python's own 5 ms are half of the time
to a first frame.
"""


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
    ops_address: str | None
    """Of /metrics and /healthz, HOST:PORT."""
    reload: Callable[[], None]
    """Load the bundle's folder again, as on SIGHUP; any thread may call it."""


def check_port(port: int, option: str, host: str = LOOPBACK) -> None:
    """See whether a port can be had.

    Args:
        port: 0 always can.
        option: The option that chooses it, for the error.
        host: Of which address.

    Raises:
        ValueError: It is in use, or not ours to use.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"{option} must be 0 to 65535, got {port}")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        if os.name == "posix":  # As the servers do, TIME_WAIT is not in use; elsewhere the option means to share.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError as error:
            reason = {errno.EADDRINUSE: "is in use", errno.EACCES: "needs more rights"}.get(
                error.errno or 0, str(error)
            )
            raise ValueError(
                f"port {port} on {host} {reason}; stop what uses it, "
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


async def serve(
    config: ServeConfig,
    started: Callable[[Running], None],
    stopping: asyncio.Event,
    reloading: asyncio.Event | None = None,
) -> None:
    """Serve until `stopping` is set, then let running streams end within `grace_s`.

    Health answers NOT_SERVING while the model loads and while streams end.

    Args:
        config: How.
        started: Called once, when requests are answered.
        stopping: Ends the server.
        reloading: Loads the bundle's folder again. No stream is dropped; a bundle that does not load leaves the old
            one serving.

    Raises:
        ValueError: An option cannot work, a port is in use, the bundle does not verify, the provider does not load.
    """
    config.check()
    ports = (("--port", config.port, config.host), ("--web-port", config.web_port, config.host))
    for option, port, host in (*ports, ("--metrics-port", config.ops_port, config.ops_host)):
        if port is not None:
            check_port(port, option, host)
    sys.setswitchinterval(SWITCH_S)
    service = _service(config)
    tokens = Tokens(config.tokens) if config.tokens is not None else None
    certificates = None
    if config.tls_certificate is not None and config.tls_key is not None:
        certificates = Certificates(config.tls_certificate, config.tls_key, config.tls_client_ca)
    server = make_server(service, tokens)
    health = await add_services(server, service, config.max_idle_s)
    web_runner = web.AppRunner(
        application(service, tokens, config.cors_origins, config.max_idle_s),
        handler_cancellation=True,
        access_log=None,
        shutdown_timeout=config.grace_s,
    )
    ops_runner = web.AppRunner(ops_application(service.metrics), access_log=None)
    loop = asyncio.get_running_loop()
    reloading = reloading or asyncio.Event()
    reloads: asyncio.Task[None] | None = None
    try:
        await set_serving(health, False)
        port = _bind(server, config, certificates)
        await server.start()
        ops_address = await _start_http(ops_runner, config.ops_host, config.ops_port, "--metrics-port", None)
        served = await service.load()
        context = certificates.context() if certificates is not None else None
        web_address = await _start_http(web_runner, config.host, config.web_port, "--web-port", context)
        await set_serving(health, True)
        reloads = asyncio.create_task(_reload_when_asked(service, reloading))
        started(
            Running(
                model_id=served.model_id,
                provider=served.provider,
                grpc_address=_address(config.host, port),
                web_address=web_address,
                ops_address=ops_address,
                reload=lambda: loop.call_soon_threadsafe(reloading.set) and None,
            )
        )
        await stopping.wait()
        logger.info("stopping; %d streams have %g s to end", service.num_streams, config.grace_s)
        service.drain()
        await health.enter_graceful_shutdown()
    finally:
        if reloads is not None:
            reloads.cancel()
            await asyncio.wait([reloads])
        await asyncio.gather(server.stop(config.grace_s), web_runner.cleanup())
        await ops_runner.cleanup()
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


def _service(config: ServeConfig) -> Service:
    if config.ray is not None:
        return RayService(config.ray, config.max_wait_s, Metrics())
    check_bundle_exists(config.bundle)
    return MotionService(config, Metrics())


async def _reload_when_asked(service: Service, reloading: asyncio.Event) -> None:
    while True:
        await reloading.wait()
        reloading.clear()
        try:
            served = await service.load()
        except Exception as error:  # Whatever is wrong with the new bundle, the old one serves.
            service.metrics.reloads.labels("refused").inc()
            logger.error("the bundle was not loaded again, the old one serves on: %s", error)
        else:
            service.metrics.reloads.labels("loaded").inc()
            logger.info("serving %s, revision %s", served.model_id, served.revision[:12])


def _bind(server: grpc.aio.Server, config: ServeConfig, certificates: Certificates | None) -> int:
    address = _address(config.host, config.port)
    try:
        if certificates is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, certificates.server_credentials())
    except RuntimeError as error:
        raise ValueError(
            f"port {config.port} on {config.host} was taken meanwhile ({error}); "
            "choose another with --port (0 picks a free one)"
        ) from error


async def _start_http(
    runner: web.AppRunner, host: str, port: int | None, option: str, context: ssl.SSLContext | None
) -> str | None:
    if port is None:
        return None
    await runner.setup()
    site = web.TCPSite(runner, host, port, ssl_context=context)
    try:
        await site.start()
    except OSError as error:
        raise ValueError(
            f"port {port} on {host} was taken meanwhile ({error}); choose another with {option} (0 picks a free one)"
        ) from error
    return _address(host, runner.addresses[0][1])


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
