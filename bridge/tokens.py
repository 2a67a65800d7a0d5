"""Bearer tokens. The server's file holds their hashes, so who reads it can call nobody."""

import hashlib
import hmac
import logging
import re
import secrets
from pathlib import Path

import grpc

from bridge.status import StatusError, reason

logger = logging.getLogger(__name__)

_LINE = re.compile(r"(\S+) sha256:([0-9a-f]{64})")


def make_token(name: str) -> tuple[str, str]:
    """A new token, and the line of the file that admits it.

    The token is 256 random bits, so a plain hash does not give it away.

    Raises:
        ValueError: The name holds white space, or nothing.
    """
    if not re.fullmatch(r"\S+", name):
        raise ValueError(f"a token's name is one word, got {name!r}")
    token = secrets.token_urlsafe(32)
    return token, f"{name} sha256:{_digest(token)}"


class Tokens:
    """The tokens of a file, read again when it changes.

    A changed file that is malformed is logged and leaves the tokens as they were.

    Raises:
        ValueError: The file is malformed, or holds no token.
        OSError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = _stamp(path)
        self._names = _read(path)

    def name(self, authorization: str | None) -> str:
        """Whose token a call came with.

        Args:
            authorization: The metadata or header of that name.

        Raises:
            StatusError: UNAUTHENTICATED: none, or one that is not in the file.
        """
        self._refresh()
        scheme, _, token = (authorization or "").partition(" ")
        found = ""
        if scheme.lower() == "bearer":
            digest = _digest(token.strip())
            # All are compared, each in constant time: how long it takes says nothing.
            for known, name in self._names.items():
                if hmac.compare_digest(digest, known):
                    found = name
        if not found:
            raise StatusError(
                grpc.StatusCode.UNAUTHENTICATED,
                "this server asks for a token: metadata 'authorization: Bearer TOKEN'"
                + ("; the one that came is not known" if authorization else ", none came"),
                reason("TOKEN_UNKNOWN" if authorization else "TOKEN_MISSING"),
            )
        return found

    def _refresh(self) -> None:
        if (stamp := _stamp(self._path)) == self._stamp:
            return
        self._stamp = stamp
        try:
            self._names = _read(self._path)
        except (OSError, ValueError) as error:
            logger.error("tokens stay as they were: %s", error)
        else:
            logger.info("%s: read again, %d tokens", self._path, len(self._names))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes with a file; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _digest(token: str) -> str:
    # HTTP gives bytes that are no text as half surrogates, which UTF-8 does not know.
    return hashlib.sha256(token.encode(errors="backslashreplace")).hexdigest()


def _read(path: Path) -> dict[str, str]:
    names: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise ValueError(
                f"{path}, line {number}: expected 'NAME sha256:HASH', as python -m bridge token NAME prints it"
            )
        names[match[2]] = match[1]
    if not names:
        raise ValueError(f"{path}: holds no token; python -m bridge token NAME makes one")
    return names
