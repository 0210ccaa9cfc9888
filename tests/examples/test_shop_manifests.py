"""The manifests of the shop: they are valid by the schemas of Kubernetes and Compose, and fit together and the apps."""

from __future__ import annotations

import copy
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from catga_sync import ClusterOptions
from catga_sync.discovery._kubernetes_slices import parse_url
from tests.conftest import require_module

validation = require_module("kubernetes_validate")
require_module("check_jsonschema")
yaml = require_module("yaml")

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "shop"
COMPOSE = FOLDER / "docker-compose.yml"
OBJECTS: list[dict[str, Any]] = [
    item
    for file in sorted((FOLDER / "kubernetes").glob("*.yaml"))
    for item in yaml.safe_load_all(file.read_text("utf-8"))
]
SERVICES = ("orders", "prices", "stock")


def the(kind: str, name: str) -> dict[str, Any]:
    (found,) = [item for item in OBJECTS if (item["kind"], item["metadata"]["name"]) == (kind, name)]
    return found


@pytest.mark.parametrize("item", OBJECTS, ids=lambda item: f"{item['kind']}-{item['metadata']['name']}")
def test_a_manifest_is_valid_by_the_schema_of_kubernetes(item: dict[str, Any]) -> None:
    validation.validate(item, "1.31", strict=True)
    assert item["metadata"]["namespace"] == "shop"
    wrong = copy.deepcopy(item)
    wrong["metadata"]["labls"] = {}
    with pytest.raises(validation.ValidationError, match="labls"):
        validation.validate(wrong, "1.31", strict=True)


def test_the_compose_file_is_valid_by_the_schema_of_compose(tmp_path: Path) -> None:
    wrong = yaml.safe_load(COMPOSE.read_text("utf-8"))
    wrong["services"]["stock"]["comand"] = "x"
    (tmp_path / "wrong.json").write_text(json.dumps(wrong))
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "-o", "json"]
    done = subprocess.run(
        [*command, str(COMPOSE), str(tmp_path / "wrong.json")], capture_output=True, text=True, check=False
    )
    found = json.loads(done.stdout)
    assert ({each["filename"] for each in found["errors"]}, found["parse_errors"]) == (
        {str(tmp_path / "wrong.json")},
        [],
    )
    assert "comand" in done.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_of_the_compose_file_calls_itself_what_the_network_calls_it(name: str) -> None:
    service = yaml.safe_load(COMPOSE.read_text("utf-8"))["services"][name]
    options = {key.removeprefix("CATGA_").lower() for key in service["environment"] if key.startswith("CATGA_")}
    assert options <= {each.name for each in dataclasses.fields(ClusterOptions)}
    assert service["environment"]["CATGA_NODE_ID"] == name
    made = ClusterOptions.from_env({**service["environment"], "CATGA_SECRET": "k" * 32})
    assert made.endpoint == f"http://{name}:8000"


@pytest.mark.parametrize("name", SERVICES)
def test_a_deployment_makes_nodes_that_are_found_and_drained(name: str) -> None:
    template = the("Deployment", name)["spec"]["template"]
    (container,) = template["spec"]["containers"]
    headless = the("Service", "catga")["spec"]
    assert headless["clusterIP"] == "None"
    assert headless["selector"].items() <= template["metadata"]["labels"].items()
    assert the("Deployment", name)["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    named = parse_url(the("ConfigMap", "catga")["data"]["CATGA_DISCOVERY"])
    assert (named.name, named.port) == ("catga", headless["ports"][0]["name"])
    arguments = container["args"]
    graceful = int(arguments[arguments.index("--graceful-timeout") + 1])
    assert template["spec"]["terminationGracePeriodSeconds"] >= 25 + graceful + 5
    assert container["lifecycle"]["preStop"]["exec"]["command"] == ["/bin/sh", "-c", 'catga-sync drain "$POD_NAME"']
    assert {container[kind]["httpGet"]["path"] for kind in ("readinessProbe", "livenessProbe")} == {"/healthz"}


@pytest.mark.parametrize("name", SERVICES)
def test_the_options_of_a_pod_are_options(name: str) -> None:
    (container,) = the("Deployment", name)["spec"]["template"]["spec"]["containers"]
    fields = {"status.podIP": "10.0.0.7", "metadata.name": f"{name}-6d4f8c9b7-2xkqp"}
    filled = dict(the("ConfigMap", "catga")["data"])
    for each in container["env"]:
        value = each.get("value") or fields.get(each["valueFrom"].get("fieldRef", {}).get("fieldPath"), "x" * 64)
        for known, text in filled.items():
            value = value.replace(f"$({known})", text)
        filled[each["name"]] = value
    options = {key.removeprefix("CATGA_").lower() for key in filled if key.startswith("CATGA_")}
    assert options <= {each.name for each in dataclasses.fields(ClusterOptions)}
    made = ClusterOptions.from_env(filled)
    assert (made.node_id, made.endpoint) == (f"{name}-6d4f8c9b7-2xkqp", "http://10.0.0.7:8000")


def test_the_account_of_the_pods_may_follow_endpoint_slices_and_nothing_else() -> None:
    (subject,) = the("RoleBinding", "catga-discovery")["subjects"]
    assert subject == {"kind": "ServiceAccount", "name": "shop", "namespace": "shop"}
    assert the("ServiceAccount", "shop")
    for name in SERVICES:
        assert the("Deployment", name)["spec"]["template"]["spec"]["serviceAccountName"] == "shop"
    (rule,) = the("Role", "catga-discovery")["rules"]
    assert rule == {
        "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"],
    }  # fmt: skip
