"""How a server runs, and what of it cannot work."""

import ipaddress
import math
from dataclasses import dataclass, fields
from itertools import combinations
from pathlib import Path

DEFAULT_BUNDLE = Path(__file__).parent / "default_bundle"
LOOPBACK = "127.0.0.1"
GRPC_PORT, WEB_PORT, METRICS_PORT = 50051, 50052, 9464
MAX_REQUEST_BYTES = 64 * 1024
_OF_REPLICAS = {
    "bundle": "BUNDLE",
    "provider": "--provider",
    "num_threads": "--threads",
    "max_streams": "--max-streams",
    "max_duration_s": "--max-duration-s",
    "log_prompts": "--log-prompts",
    "traces": "--traces",
}
"""Fields that Ray's replicas have instead of this server, and how they are given to it."""


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """How a server runs."""

    bundle: Path = DEFAULT_BUNDLE
    """Folder that python -m export wrote."""

    host: str = LOOPBACK
    """Address that gRPC and gRPC-Web listen on; other than loopback only with TLS and tokens, or `insecure`."""

    port: int = GRPC_PORT
    """gRPC; 0 picks a free one."""

    web_port: int | None = WEB_PORT
    """gRPC-Web over HTTP/1.1; 0 picks a free one, None serves none."""

    ops_host: str = LOOPBACK
    """Address that /metrics and /healthz listen on. They tell nothing of prompts and ask for no token."""

    ops_port: int | None = None
    """/metrics and /healthz over HTTP; 0 picks a free one, None serves none."""

    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may call gRPC-Web, for example https://game.example; `*` is any."""

    provider: str = "auto"
    """Where ONNX Runtime runs: auto, cpu, cuda or tensorrt."""

    num_threads: int = 1
    """Threads of one step of a graph; 0 is one a core. What a stream gets does not depend on it, and whether more than
    one pays depends on the machine: `python -m bridge bench --compare-threads` measures it.
    """

    max_streams: int = 10
    """Streams at once; one more waits in the queue or is refused with RESOURCE_EXHAUSTED."""

    max_queue: int = 0
    """Calls that wait for a stream to end; 0 refuses at once, so that a balancer can ask another replica."""

    max_wait_s: float = 2.0
    """How long a call waits before it is refused."""

    max_duration_s: float = 10.0
    """Longest motion that a request may ask for."""

    max_idle_s: float = 30.0
    """A stream whose client takes nothing for so long is ended."""

    grace_s: float = 10.0
    """How long running streams may go on after SIGTERM or SIGINT."""

    tls_certificate: Path | None = None
    """PEM file of the server's certificate, and of those between it and its root. Read again when it changes."""

    tls_key: Path | None = None
    """PEM file of the certificate's private key."""

    tls_client_ca: Path | None = None
    """PEM file of the roots whose clients may connect: mutual TLS. None asks clients for no certificate."""

    tokens: Path | None = None
    """File of hashed bearer tokens, which python -m bridge token writes. None lets everybody call."""

    insecure: bool = False
    """Listen on any address without TLS or tokens, because something before the server takes care of both."""

    log_prompts: bool = False
    """Write prompts, and messages that quote them, to the log."""

    traces: bool = False
    """Write a span of each call to the process's OpenTelemetry tracer provider. They hold no words of prompts."""

    ray: str | None = None
    """Address of a Ray cluster whose replicas make the motions (`ray_app.py`); what is said of a bundle and of streams
    is theirs then, not this server's. `auto` is the cluster of this machine."""

    def check(self) -> None:
        """See whether a server could run like this.

        Raises:
            ValueError: It could not; says which option, and what to do.
        """
        ports = {"--port": self.port, "--web-port": self.web_port, "--metrics-port": self.ops_port}
        for (one, its), (other, others) in combinations(ports.items(), 2):
            if its == others and its:
                raise ValueError(f"{one} and {other} must differ, both are {its}")
        if self.max_streams < 1:
            raise ValueError(f"--max-streams must be 1 or more, got {self.max_streams}")
        if self.max_queue < 0:
            raise ValueError(f"--max-queue must be 0 or more, got {self.max_queue}")
        if self.num_threads < 0:
            raise ValueError(f"--threads must be 0 (one a core) or more, got {self.num_threads}")
        if not 0 <= self.grace_s < math.inf:
            raise ValueError(f"--grace-s must be a number of seconds, 0 or more, got {self.grace_s:g}")
        for option, value_s in (("--max-wait-s", self.max_wait_s), ("--max-idle-s", self.max_idle_s)):
            if not 0 < value_s < math.inf:
                raise ValueError(f"{option} must be a number of seconds, more than 0, got {value_s:g}")
        if self.ray is not None:
            self._check_ray()
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("--tls-certificate and --tls-key belong together; give both, or none")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError(
                "--tls-client-ca asks clients for certificates, which needs --tls-certificate and --tls-key"
            )
        self._check_host()

    def _check_ray(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _OF_REPLICAS and value != field.default:
                option = _OF_REPLICAS[field.name]
                said = int(value) if isinstance(value, bool) else value
                raise ValueError(
                    f"{option} is the replicas' with --ray: serve run bridge.ray_app:app {field.name}={said}"
                )
        if self.max_queue:
            raise ValueError("--max-queue is not for --ray: calls wait --max-wait-s for a replica, all of them")

    def _check_host(self) -> None:
        if is_loopback(self.host) or self.insecure:
            return
        missing = [
            option
            for option, value in (
                ("TLS (--tls-certificate, --tls-key)", self.tls_certificate),
                ("callers' names (--tokens or --tls-client-ca)", self.tokens or self.tls_client_ca),
            )
            if value is None
        ]
        if missing:
            raise ValueError(
                f"--host {self.host} can be reached from other machines, which needs {' and '.join(missing)}; "
                "where a proxy takes care of that, say --insecure"
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
