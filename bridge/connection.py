"""Where bridges are, and how a client proves who it is."""

from dataclasses import dataclass, field
from pathlib import Path

import grpc

OPTIONS = (
    # A server that comes back is found again within a second, not after two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5000),  # In truth the time that an attempt may take.
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A new client tries at once, whatever happened to another one of the same process.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)


@dataclass(frozen=True)
class Connection:
    """Servers that may answer for one another, and what they ask of a client.

    Raises:
        ValueError: No address; a certificate without its key, or without TLS.
    """

    addresses: tuple[str, ...]
    """HOST:PORT each; the next one is asked where one does not answer."""
    token: str = field(default="", repr=False)
    """Bearer token; empty for servers that ask for none."""
    tls_ca: Path | None = None
    """PEM file of the roots that the servers' certificates come from; None connects without TLS."""
    tls_certificate: Path | None = None
    """PEM file of the client's own certificate, for mutual TLS."""
    tls_key: Path | None = None
    """PEM file of its key."""

    def __post_init__(self) -> None:
        if not self.addresses:
            raise ValueError("a client needs an address, for example 127.0.0.1:50051")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together; give both, or none")
        if self.tls_certificate is not None and self.tls_ca is None:
            raise ValueError("a client's certificate needs TLS; give tls_ca as well")

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with each call."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def channels(self) -> list[grpc.Channel]:
        """A channel for each address."""
        credentials = self._credentials()
        if credentials is None:
            return [grpc.insecure_channel(address, options=OPTIONS) for address in self.addresses]
        return [grpc.secure_channel(address, credentials, options=OPTIONS) for address in self.addresses]

    def async_channels(self) -> list[grpc.aio.Channel]:
        """A channel of asyncio for each address."""
        credentials = self._credentials()
        if credentials is None:
            return [grpc.aio.insecure_channel(address, options=OPTIONS) for address in self.addresses]
        return [grpc.aio.secure_channel(address, credentials, options=OPTIONS) for address in self.addresses]

    def _credentials(self) -> grpc.ChannelCredentials | None:
        if self.tls_ca is None:
            return None
        return grpc.ssl_channel_credentials(
            self.tls_ca.read_bytes(),
            None if self.tls_key is None else self.tls_key.read_bytes(),
            None if self.tls_certificate is None else self.tls_certificate.read_bytes(),
        )
