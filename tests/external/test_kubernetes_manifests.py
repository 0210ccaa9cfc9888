"""The manifests of the example: the official client reads all of them, and they fit together and the app."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from catga_sync import ClusterOptions
from catga_sync._endpoint import check_endpoint
from catga_sync.discovery._kubernetes_slices import parse_url
from catga_sync.nodes import check_node_id
from tests.conftest import require_module

require_module("kubernetes")
yaml = require_module("yaml")

# isort: split

from tests.external.kubernetes_objects import judged  # noqa: E402 - see above
from tests.tables import every_row  # noqa: E402

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "kubernetes"

_KINDS = {
    ("v1", "ServiceAccount"): "V1ServiceAccount",
    ("rbac.authorization.k8s.io/v1", "Role"): "V1Role",
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): "V1RoleBinding",
    ("v1", "Service"): "V1Service",
    ("apps/v1", "Deployment"): "V1Deployment",
}


def objects() -> list[dict[str, Any]]:
    return [item for file in sorted(FOLDER.glob("*.yaml")) for item in yaml.safe_load_all(file.read_text("utf-8"))]


def the(kind: str, name: str | None = None) -> dict[str, Any]:
    (found,) = [item for item in objects() if item["kind"] == kind and name in (None, item["metadata"]["name"])]
    return found


@pytest.fixture
def template() -> dict[str, Any]:
    found: dict[str, Any] = the("Deployment")["spec"]["template"]
    return found


@pytest.fixture
def container(template: dict[str, Any]) -> dict[str, Any]:
    (found,) = template["spec"]["containers"]
    assert isinstance(found, dict)
    return found


@pytest.fixture
def environment(container: dict[str, Any]) -> dict[str, str]:
    """What the container's variables come to, filled in the order in which the kubelet fills them."""
    fields = {"status.podIP": "10.0.0.7", "metadata.name": "words-6d4f8c9b7-2xkqp"}
    filled: dict[str, str] = {}
    for each in container["env"]:
        value = each.get("value") or fields.get(each["valueFrom"].get("fieldRef", {}).get("fieldPath"), "x" * 64)
        for name, known in filled.items():
            value = value.replace(f"$({name})", known)
        filled[each["name"]] = value
    return filled


@every_row("item", objects())
def test_is_read_whole_by_the_official_client(item: dict[str, Any]) -> None:
    assert judged(item, _KINDS[item["apiVersion"], item["kind"]])
    assert item["metadata"]["namespace"] == "shop"


def test_the_account_may_follow_endpoint_slices_and_nothing_else(template: dict[str, Any]) -> None:
    role, binding, account = the("Role"), the("RoleBinding"), the("ServiceAccount")
    assert role["rules"] == [
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]}
    ]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    (subject,) = binding["subjects"]
    assert (subject["kind"], subject["namespace"]) == ("ServiceAccount", account["metadata"]["namespace"])
    assert subject["name"] == account["metadata"]["name"] == template["spec"]["serviceAccountName"]


def test_the_options_are_options_and_say_what_the_slices_say(environment: dict[str, str]) -> None:
    options = {name.removeprefix("CATGA_").lower(): value for name, value in environment.items() if "CATGA_" in name}
    assert options.keys() <= {each.name for each in dataclasses.fields(ClusterOptions)}
    assert check_node_id(options["node_id"]) == "words-6d4f8c9b7-2xkqp"
    assert check_endpoint(options["endpoint"]) == "http://10.0.0.7:8000"
    assert ClusterOptions.from_env(environment).endpoint == "http://10.0.0.7:8000"


def test_the_discovery_url_names_the_headless_service_and_its_port(
    environment: dict[str, str], template: dict[str, Any], container: dict[str, Any]
) -> None:
    named = parse_url(environment["CATGA_DISCOVERY"])
    service = the("Service", named.name)
    assert (named.namespace, service["spec"]["clusterIP"]) == ("", "None")
    (port,) = service["spec"]["ports"]
    assert named.port == port["name"]
    assert port["targetPort"] in [each["name"] for each in container["ports"]]
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()


def test_the_front_door_and_the_deployment_pick_the_same_pods(template: dict[str, Any]) -> None:
    labels = template["metadata"]["labels"].items()
    assert the("Service", "words")["spec"]["selector"].items() <= labels
    assert the("Deployment")["spec"]["selector"]["matchLabels"].items() <= labels


def test_the_grace_period_is_long_enough_for_drain_and_workers(
    template: dict[str, Any], container: dict[str, Any]
) -> None:
    arguments = container["args"]
    graceful = int(arguments[arguments.index("--graceful-timeout") + 1])
    assert template["spec"]["terminationGracePeriodSeconds"] >= 25 + graceful + 5
    # Neither the kubelet nor the shell fills in $(NAME) in a hook.
    assert container["lifecycle"]["preStop"]["exec"]["command"] == ["/bin/sh", "-c", 'catga-sync drain "$POD_NAME"']


def test_the_probe_asks_a_route_of_the_app(container: dict[str, Any]) -> None:
    probe = container["readinessProbe"]["httpGet"]
    assert probe["port"] in [each["name"] for each in container["ports"]]
    assert f'@app.get("{probe["path"]}")' in (FOLDER / "app.py").read_text("utf-8")


def test_the_readme_names_every_file() -> None:
    text = (FOLDER / "README.md").read_text("utf-8")
    for file in FOLDER.iterdir():
        assert file.is_dir() or file.name in text or file.name == "README.md"
