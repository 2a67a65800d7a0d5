"""Each error code of the wire as C# reads it from the bridge's own servers; and TLS with a root of one's own."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import trustme
from aiohttp import web

from bridge.config import DEFAULT_BUNDLE, LOOPBACK, ServeConfig
from bridge.grpc_server import add_services, make_server
from bridge.metrics import Metrics
from bridge.server import Running, running
from bridge.service import MotionService
from bridge.stream import MotionModel
from bridge.tokens import make_token
from bridge.web import application

FIXTURES = ("MotionR1.Tests.WireErrorsTests(False)", "MotionR1.Tests.WireErrorsTests(True)")
MAX_IDLE_S = 30.0


@contextmanager
def answering(service: MotionService) -> Iterator[str]:
    """Both of the bridge's servers around a service, whatever state that is in; yields their addresses."""
    loop, ending = asyncio.new_event_loop(), asyncio.Event()
    started: Future[str] = Future()

    async def serve() -> None:
        server = make_server(service, None)
        await add_services(server, service, MAX_IDLE_S)
        grpc_port = server.add_insecure_port(f"{LOOPBACK}:0")
        await server.start()
        runner = web.AppRunner(application(service, None, (), MAX_IDLE_S), handler_cancellation=True, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, LOOPBACK, 0).start()
        started.set_result(f"{LOOPBACK}:{grpc_port} {LOOPBACK}:{runner.addresses[0][1]}")
        await ending.wait()
        await asyncio.gather(server.stop(0), runner.cleanup())

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        yield started.result(timeout=60)
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join()
        loop.close()


def addresses(server: Running) -> str:
    return f"{server.grpc_address} {server.web_address}"


def secured(folder: Path) -> ServeConfig:
    """TLS by a root of its own and for 127.0.0.1 only, one token, one stream at a time."""
    root, other = trustme.CA(), trustme.CA()
    root.cert_pem.write_to_path(str(folder / "root.pem"))
    other.cert_pem.write_to_path(str(folder / "other.pem"))
    leaf = root.create_child_ca().issue_cert(LOOPBACK)
    (folder / "server.crt").write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(str(folder / "server.key"))
    token, line = make_token("tests")
    (folder / "token").write_text(token)
    (folder / "tokens").write_text(line)
    return ServeConfig(
        port=0,
        web_port=0,
        max_streams=1,
        tls_certificate=folder / "server.crt",
        tls_key=folder / "server.key",
        tokens=folder / "tokens",
    )


def stop_when_asked(name: str, folder: Path, wait_for: Callable[[Path], None]) -> None:
    """A whole bridge that is stopped, with hardly any grace, while a stream runs."""
    with running(ServeConfig(port=0, web_port=0, grace_s=0.2)) as server:
        (folder / name).write_text(addresses(server))
        wait_for(folder / f"{name}.stop")


def test_csharp_reads_every_error_of_the_wire_and_trusts_its_own_roots_only(
    run_nunit: Callable[..., str], wait_for: Callable[[Path], None], tmp_path: Path
):
    names = ("plain", "loading", "draining", "broken")
    services = {name: MotionService(ServeConfig(), Metrics()) for name in names}
    plain, broken = (MotionModel(DEFAULT_BUNDLE, "cpu") for _ in range(2))
    services["plain"].replace(plain)
    services["draining"].replace(plain)
    services["draining"].drain()
    services["broken"].replace(broken)
    broken.steps.close()
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        stack.callback(plain.close)
        for name, service in services.items():
            (tmp_path / name).write_text(stack.enter_context(answering(service)))
        (tmp_path / "secured").write_text(addresses(stack.enter_context(running(secured(tmp_path)))))
        stopping = [pool.submit(stop_when_asked, f"stopping-{kind}", tmp_path, wait_for) for kind in ("native", "web")]
        for kind in ("native", "web"):
            wait_for(tmp_path / f"stopping-{kind}")
        printed = run_nunit(*FIXTURES, MOTION_R1_SERVERS_FOLDER=str(tmp_path))
        for stopped in stopping:
            stopped.result()
    assert "30 passed, 0 failed, 0 skipped" in printed, printed
