"""TLS and mutual TLS, with certificates that are read again when their files change."""

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Pems:
    certificate: bytes
    key: bytes
    client_ca: bytes | None


class Certificates:
    """The server's certificate and key, and the roots of its clients.

    Each handshake looks at the files, so a renewed certificate needs no restart. One that does not load is logged and
    leaves the old one in use.

    Raises:
        ValueError: They do not load.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._certificate, self._key, self._client_ca = certificate, key, client_ca
        self._stamp = self._stamps()
        try:
            self._context = self._load()
            self._pems = self._given = self._read()
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"{certificate}, {key}: no certificate with its key in PEM form ({error})") from error

    def server_credentials(self) -> grpc.ServerCredentials:
        """For gRPC."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration(),
            self._changed_configuration,  # pyright: ignore[reportArgumentType], None is what says that nothing changed
            require_client_authentication=self._client_ca is not None,
        )

    def context(self) -> ssl.SSLContext:
        """For HTTP; it hands each handshake over to the newest context."""
        first = self._load()

        def choose(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
            self._refresh()
            connection.context = self._context

        first.sni_callback = choose
        return first

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        self._given = self._pems
        pairs = [(self._pems.key, self._pems.certificate)]
        return grpc.ssl_server_certificate_configuration(pairs, self._pems.client_ca)

    def _changed_configuration(self) -> grpc.ServerCertificateConfiguration | None:
        self._refresh()
        return None if self._pems == self._given else self._configuration()

    def _refresh(self) -> None:
        try:
            if (stamp := self._stamps()) != self._stamp:
                context, pems = self._load(), self._read()  # Nothing changes unless all of it loads.
                self._context, self._pems, self._stamp = context, pems, stamp
                logger.info("%s: read again", self._certificate)
        except (OSError, ssl.SSLError) as error:
            logger.error("the certificate stays as it was; %s, %s: %s", self._certificate, self._key, error)

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._certificate, self._key)
        if self._client_ca is not None:
            context.load_verify_locations(self._client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _read(self) -> _Pems:
        client_ca = self._client_ca.read_bytes() if self._client_ca is not None else None
        return _Pems(self._certificate.read_bytes(), self._key.read_bytes(), client_ca)

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        files = [file for file in (self._certificate, self._key, self._client_ca) if file is not None]
        return tuple((status.st_mtime_ns, status.st_size) for status in (file.stat() for file in files))
