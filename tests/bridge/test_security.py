"""Who may call: addresses, TLS, mutual TLS and tokens."""

import hashlib
import http.client
import os
import ssl
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2

from bridge.__main__ import main
from bridge.client import CallError, MotionClient
from bridge.config import ServeConfig
from bridge.connection import Connection
from bridge.server import running
from bridge.status import SERVICE, StatusError
from bridge.stubs import motion_pb2
from bridge.tokens import Tokens, make_token


def authorities(folder: Path, name: str) -> tuple[trustme.CA, Path]:
    """A root of its own, and its PEM file."""
    ca, path = trustme.CA(), folder / f"{name}.pem"
    ca.cert_pem.write_to_path(str(path))
    return ca, path


def issue(ca: trustme.CA, folder: Path, name: str, **settings: object) -> tuple[Path, Path]:
    """A certificate for this machine, and its key, as files."""
    leaf = ca.issue_cert("localhost", "127.0.0.1", **settings)  # pyright: ignore[reportArgumentType]
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(str(key))
    return certificate, key


def code_of(call: Callable[[], object]) -> grpc.StatusCode | None:
    try:
        call()
    except CallError as error:
        return error.code
    return None


def health_is_serving(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        return check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=5).status == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "bridge.example"])
def test_a_public_address_needs_tls_and_names_or_the_word_insecure(host: str):
    with pytest.raises(ValueError, match=r"needs TLS .* and callers' names .*say --insecure"):
        ServeConfig(host=host).check()
    with pytest.raises(ValueError, match=r"needs callers' names"):
        ServeConfig(host=host, tls_certificate=Path("a"), tls_key=Path("b")).check()
    ServeConfig(host=host, insecure=True).check()
    ServeConfig(host=host, tls_certificate=Path("a"), tls_key=Path("b"), tokens=Path("c")).check()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback_needs_nothing(host: str):
    ServeConfig(host=host).check()


def test_the_file_holds_hashes_and_no_token(tmp_path: Path):
    token, line = make_token("studio")
    assert token not in line
    assert hashlib.sha256(token.encode()).hexdigest() in line
    path = tmp_path / "tokens"
    path.write_text(f"# who may call\n\n{line}\n")
    tokens = Tokens(path)
    assert tokens.name(f"Bearer {token}") == tokens.name(f"bearer  {token} ") == "studio"
    for wrong in (None, "", token, f"Basic {token}", "Bearer ", f"Bearer {token}x", "Bearer \u00e9", "Bearer \udcff"):
        with pytest.raises(StatusError) as caught:
            tokens.name(wrong)
        assert caught.value.code is grpc.StatusCode.UNAUTHENTICATED
        assert token not in str(caught.value.proto())


def test_a_changed_file_counts_at_once_and_a_broken_one_leaves_the_tokens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / "tokens"
    (first, first_line), (second, second_line) = make_token("a"), make_token("b")
    path.write_text(first_line)
    tokens = Tokens(path)
    path.write_text(f"{second_line}\n# grown\n")
    assert tokens.name(f"Bearer {second}") == "b"
    with pytest.raises(StatusError):
        tokens.name(f"Bearer {first}")
    path.write_text("b plain-text-password\n")
    assert tokens.name(f"Bearer {second}") == "b"
    assert "line 1: expected 'NAME sha256:HASH'" in caplog.text
    path.unlink()
    caplog.clear()
    for _ in range(3):
        assert tokens.name(f"Bearer {second}") == "b"
    assert caplog.text.count("tokens stay as they were") == 1
    path.write_text(first_line)
    assert tokens.name(f"Bearer {first}") == "a"


@pytest.mark.parametrize("text", ["", "# nobody\n", "name\n", "name sha256:abc\n"])
def test_a_file_without_tokens_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "tokens"
    path.write_text(text)
    with pytest.raises(ValueError, match="python -m bridge token NAME"):
        Tokens(path)


def test_without_the_token_nothing_but_health_answers(tiny_bundle: Path, tmp_path: Path):
    token, line = make_token("studio")
    path = tmp_path / "tokens"
    path.write_text(line)
    request = motion_pb2.StreamMotionRequest(prompt="walk", reasoning=motion_pb2.REASONING_OFF, max_duration_s=0.2)
    with running(ServeConfig(bundle=tiny_bundle, port=0, web_port=0, ops_port=0, tokens=path)) as server:
        assert health_is_serving(server.grpc_address)
        for wrong in ("", "wrong"):
            with MotionClient(connection=Connection((server.grpc_address,), token=wrong)) as client:
                calls = (
                    client.get_model,
                    lambda client=client: client.plan("walk"),
                    lambda client=client: list(client.stream(request)),
                    lambda client=client: list(client.decode([1])),
                )
                assert [code_of(call) for call in calls] == [grpc.StatusCode.UNAUTHENTICATED] * 4
        with grpc.insecure_channel(server.grpc_address) as channel:
            reflect = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
            with pytest.raises(grpc.RpcError) as caught:
                next(reflect(iter([b""]), timeout=5))
            assert isinstance(caught.value, grpc.Call)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            with pytest.raises(grpc.RpcError):
                channel.unary_unary("/somebody.made/ThisUp")(b"", timeout=5)
        with MotionClient(connection=Connection((server.grpc_address,), token=token)) as client:
            assert len(list(client.stream(request))) == 3
        assert server.web_address is not None
        for headers, status in (
            ({}, "16"),
            ({"authorization": b"Bearer \xff"}, "16"),
            ({"authorization": f"Bearer {token}"}, "0"),
        ):
            connection = http.client.HTTPConnection(server.web_address, timeout=10)
            sent = {"content-type": "application/grpc-web+proto", **headers}
            connection.request("POST", f"/{SERVICE}/GetModel", b"\0\0\0\0\0", sent)
            response = connection.getresponse()
            body = response.read()
            connection.close()
            assert response.headers.get("grpc-status", body[-3:-2].decode()) == status
        with urllib.request.urlopen(f"http://{server.ops_address}/metrics", timeout=10) as metrics:
            told = metrics.read().decode()
    assert "ThisUp" not in told, "whoever may not call could fill the memory with names"
    assert 'motion_calls_total{code="UNIMPLEMENTED",method="unknown",transport="grpc"} 1.0' in told
    assert 'motion_calls_total{code="UNAUTHENTICATED",method="GetModel",transport="grpc-web"} 2.0' in told


def test_tls_takes_its_own_root_only_and_a_renewed_certificate_without_a_restart(tiny_bundle: Path, tmp_path: Path):
    ca, root = authorities(tmp_path, "root")
    new_ca, new_root = authorities(tmp_path, "new")
    certificate, key = issue(ca, tmp_path, "server")
    config = ServeConfig(bundle=tiny_bundle, port=0, web_port=0, tls_certificate=certificate, tls_key=key)
    with running(config) as server:
        assert server.web_address is not None
        assert asks(server.grpc_address, server.web_address, root) == (None, True)
        assert asks(server.grpc_address, server.web_address, new_root) == (grpc.StatusCode.UNAVAILABLE, False)
        renewed, renewed_key = issue(new_ca, tmp_path, "renewed")
        os.replace(renewed_key, key)
        os.replace(renewed, certificate)
        assert asks(server.grpc_address, server.web_address, new_root) == (None, True)
        assert asks(server.grpc_address, server.web_address, root) == (grpc.StatusCode.UNAVAILABLE, False)
        certificate.write_text("no certificate")
        assert asks(server.grpc_address, server.web_address, new_root) == (None, True)


def test_generate_and_bench_ask_a_bridge_with_tls_and_tokens(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    ca, root = authorities(tmp_path, "root")
    certificate, key = issue(ca, tmp_path, "server")
    token, line = make_token("studio")
    tokens, file, out = tmp_path / "tokens", tmp_path / "token", tmp_path / "walk.npz"
    tokens.write_text(line)
    file.write_text(f"{token}\n")
    config = ServeConfig(
        bundle=tiny_bundle, port=0, web_port=None, tls_certificate=certificate, tls_key=key, tokens=tokens
    )
    with running(config) as server:
        to = ["--address", server.grpc_address, "--tls-ca", str(root)]
        known = [*to, "--token-file", str(file)]
        assert main(["generate", "a person walks", "--reasoning=off", f"--out={out}", *known]) == 0
        assert main(["bench", "--streams=1", "--rounds=1", *known]) == 0
        assert main(["generate", "a person walks", f"--out={out}", *to]) == 2
    assert "UNAUTHENTICATED" in capsys.readouterr().err
    file.write_text("")
    assert main(["bench", "--address", "127.0.0.1:1", "--token-file", str(file)]) == 2
    assert "holds no token" in capsys.readouterr().err
    assert main(["bench", "--token-file", str(file)]) == 2
    assert "name it by --address" in capsys.readouterr().err


def asks(grpc_address: str, web_address: str, root: Path) -> tuple[grpc.StatusCode | None, bool]:
    """What GetModel ends with over gRPC, and whether a handshake over HTTP succeeds, for a client with this root."""
    with MotionClient(connection=Connection((grpc_address,), tls_ca=root)) as client:
        code = code_of(client.get_model)
    return code, answers(web_address, root, (None, None))


def answers(web_address: str, root: Path, pair: tuple[Path | None, Path | None]) -> bool:
    """Whether gRPC-Web's port talks to a client with this root, certificate and key."""
    host, port = web_address.split(":")
    context = ssl.create_default_context(cafile=str(root))
    certificate, key = pair
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    connection = http.client.HTTPSConnection(host, int(port), timeout=5, context=context)
    try:
        connection.request("GET", "/")
        connection.getresponse().read()
    except (ssl.SSLError, ConnectionError):
        return False
    finally:
        connection.close()
    return True


def test_mutual_tls_takes_clients_of_its_root_only(tiny_bundle: Path, tmp_path: Path):
    from datetime import UTC, datetime, timedelta

    ca, root = authorities(tmp_path, "root")
    other, _ = authorities(tmp_path, "other")
    certificate, key = issue(ca, tmp_path, "server")
    config = ServeConfig(
        bundle=tiny_bundle, port=0, web_port=0, tls_certificate=certificate, tls_key=key, tls_client_ca=root
    )
    good, foreign = issue(ca, tmp_path, "good"), issue(other, tmp_path, "foreign")
    expired = issue(ca, tmp_path, "expired", not_after=datetime.now(UTC) - timedelta(hours=1))
    with running(config) as server:
        for pair, expected in (
            (good, None),
            (foreign, grpc.StatusCode.UNAVAILABLE),
            (expired, grpc.StatusCode.UNAVAILABLE),
            ((None, None), grpc.StatusCode.UNAVAILABLE),
        ):
            connection = Connection((server.grpc_address,), tls_ca=root, tls_certificate=pair[0], tls_key=pair[1])
            with MotionClient(connection=connection) as client:
                assert code_of(client.get_model) == expected, pair
            assert server.web_address is not None
            assert answers(server.web_address, root, pair) == (expected is None), pair


def test_a_certificate_that_does_not_load_is_an_error_before_the_server_starts(tiny_bundle: Path, tmp_path: Path):
    broken = tmp_path / "broken"
    broken.write_text("nothing")
    config = ServeConfig(bundle=tiny_bundle, port=0, web_port=None, tls_certificate=broken, tls_key=broken)
    began = time.monotonic()
    with pytest.raises(ValueError, match="no certificate with its key in PEM form"), running(config):
        pass
    assert time.monotonic() - began < 5
