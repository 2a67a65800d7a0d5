"""The files of deploy/ against the server that they start: no option, port, service or path that does not exist."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.__main__ import _parser, _serve_config
from bridge.config import GRPC_PORT, METRICS_PORT, WEB_PORT
from bridge.status import SERVICE

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
MANIFESTS = sorted(DEPLOY.glob("kubernetes/*.yaml"))


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def find(tree: object, key: str) -> list[Any]:
    """Every value of a key, at any depth."""
    if isinstance(tree, dict):
        return [value for name, value in tree.items() if name == key] + [
            found for value in tree.values() for found in find(value, key)
        ]
    return [found for item in tree for found in find(item, key)] if isinstance(tree, list) else []


def check_starts(arguments: list[str]) -> None:
    """The bridge takes these arguments of `serve`, and would listen where they say."""
    options = _parser().parse_args(["serve", *arguments])
    config = _serve_config(options)
    config.check()
    assert (config.port, config.web_port, config.ops_port) == (GRPC_PORT, WEB_PORT, METRICS_PORT)


def test_the_container_starts_a_server_that_can_be_reached():
    text = (DEPLOY / "Dockerfile").read_text()
    command = re.findall(r'"([^"]+)"', text[text.index("CMD [") :])
    check_starts(command)
    exposed = re.search(r"EXPOSE (.*)", text)
    assert exposed is not None
    assert exposed[1].split() == [str(port) for port in (GRPC_PORT, WEB_PORT, METRICS_PORT)]


def test_the_container_has_all_that_is_copied():
    copied = re.findall(r"COPY (?!--)(.+) \S+", (DEPLOY / "Dockerfile").read_text())
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for path in " ".join(copied).split():
        assert (ROOT / path).exists()
        assert path in kept


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_kubernetes_starts_probes_and_stops_the_server_as_it_is(path: Path):
    deployment, *others = documents(path)
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    check_starts(container["args"])
    grace_s = next(float(argument.split("=")[1]) for argument in container["args"] if argument.startswith("--grace-s"))
    assert pod["terminationGracePeriodSeconds"] > grace_s + 5
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert set(ports.values()) <= {GRPC_PORT, WEB_PORT, METRICS_PORT}
    for probe in ("startupProbe", "readinessProbe"):
        if grpc := container[probe].get("grpc"):
            assert grpc == {"port": GRPC_PORT, "service": SERVICE}
        else:
            assert container[probe]["httpGet"] == {"path": "/healthz", "port": "metrics"}
    service = next(one for one in others if one["kind"] == "Service")
    assert {port["port"] for port in service["spec"]["ports"]} == set(ports.values())
    assert service["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]


def test_envoy_and_compose_agree_with_the_server():
    (compose,) = documents(DEPLOY / "compose.yaml")
    (envoy,) = documents(DEPLOY / "envoy.yaml")
    assert compose["services"]["bridge"]["deploy"]["replicas"] == 2
    assert (DEPLOY / compose["services"]["bridge"]["build"]["context"] / "deploy/Dockerfile").exists()
    addresses = find(envoy["static_resources"]["clusters"], "socket_address")
    assert {(one["address"], one["port_value"]) for one in addresses} == {("bridge", GRPC_PORT), ("bridge", WEB_PORT)}
    assert find(envoy, "service_name") == [SERVICE]
    assert find(envoy, "health_check_config") == [{"port_value": METRICS_PORT}]
    for cluster in envoy["static_resources"]["clusters"]:
        (check,) = cluster["health_checks"]
        assert check["no_traffic_interval"] == check["interval"]
        assert find(cluster["circuit_breakers"], "max_retries") == [1024]
    (replicas,) = find(compose, "replicas")
    for retries in find(envoy, "retry_policy"):
        assert retries["num_retries"] >= replicas
        # Two draws, and the one with fewer calls is taken: the other replica comes in one of four.
        assert 0.75 ** retries["host_selection_retry_max_attempts"] < 1e-9
        assert {"resource-exhausted", "unavailable", "connect-failure"} <= set(retries["retry_on"].split(","))
    listeners = {one["port_value"] for one in find(envoy["static_resources"]["listeners"], "socket_address")}
    published = {int(port.split(":")[1]) for port in compose["services"]["envoy"]["ports"]}
    assert listeners <= published
    clusters = {one["name"] for one in envoy["static_resources"]["clusters"]}
    assert set(find(envoy["static_resources"]["listeners"], "cluster")) == clusters
