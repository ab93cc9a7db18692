"""The example clusters are what Ray and Kubernetes take: by the schema that Ray ships, and a strict model of ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml

from cluster.membership import ROLE_LABEL, ROLES, roles_of

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
RAY_FILES = sorted((CONFIGS / "ray").glob("*.yaml"))
KUBE_FILES = sorted((CONFIGS / "kuberay").glob("*.yaml"))
NAME, TEXT, WHOLE = {"type": "string", "pattern": "^[a-z0-9-]+$"}, {"type": "string"}, {"type": "integer", "minimum": 0}


def strict(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    """An object with these keys and no others."""
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
        "additionalProperties": False,
    }


TEXTS = {"type": "object", "additionalProperties": TEXT}
CONTAINER = strict(
    {"name": NAME, "image": TEXT, "resources": strict({"requests": TEXTS, "limits": TEXTS})},
    env={"type": "array", "items": strict({"name": TEXT, "value": TEXT})},
    volumeMounts={"type": "array", "items": strict({"name": NAME, "mountPath": TEXT}, readOnly={"type": "boolean"})},
    securityContext=strict({"privileged": {"type": "boolean"}}),
)
VOLUME = strict({"name": NAME, "secret": strict({"secretName": NAME}, defaultMode=WHOLE)})
POD = strict(
    {
        "metadata": strict({"labels": TEXTS}),
        "spec": strict(
            {"serviceAccountName": NAME, "containers": {"type": "array", "items": CONTAINER, "minItems": 1}},
            volumes={"type": "array", "items": VOLUME},
            nodeSelector=TEXTS,
            tolerations={"type": "array", "items": strict({"key": NAME, "operator": TEXT, "effect": TEXT})},
        ),
    }
)
GROUP = strict(
    {
        "groupName": NAME,
        "replicas": WHOLE,
        "minReplicas": WHOLE,
        "maxReplicas": WHOLE,
        "rayStartParams": TEXTS,
        "template": POD,
    }
)
CLUSTER = strict(
    {"rayVersion": TEXT, "headGroupSpec": strict({"rayStartParams": TEXTS, "template": POD})},
    enableInTreeAutoscaling={"type": "boolean"},
    autoscalerOptions=strict({"idleTimeoutSeconds": WHOLE}),
    workerGroupSpecs={"type": "array", "items": GROUP},
)


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def ray_cluster() -> dict[str, Any]:
    spec: dict[str, Any] = documents(CONFIGS / "kuberay" / "cluster.yaml")[0]["spec"]
    return spec


@pytest.mark.parametrize("path", RAY_FILES, ids=lambda path: path.name)
def test_a_ray_cluster_file_is_valid_by_the_schema_that_ray_ships(path: Path) -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    (document,) = documents(path)
    jsonschema.validate(document, schema)
    commands = json.dumps([document["head_start_ray_commands"], document["worker_start_ray_commands"]])
    assert commands.count("RAY_AUTH_MODE=token") == 2, "head and workers insist on the token"
    assert "chmod 600 ~/.ray/auth_token" in document["setup_commands"]


def test_the_kuberay_cluster_is_what_our_model_of_it_takes() -> None:
    jsonschema.validate(ray_cluster(), CLUSTER)
    for group in ray_cluster()["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"], group["groupName"]
    wrong = {**ray_cluster(), "workerGroupSpec": []}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, CLUSTER)


def test_every_role_in_the_examples_is_one_that_sandpool_knows() -> None:
    labels = [group["rayStartParams"]["labels"] for group in ray_cluster()["workerGroupSpecs"]]
    roles = [label.removeprefix(f"{ROLE_LABEL}=") for label in labels]
    for kind in documents(CONFIGS / "ray" / "aws.yaml")[0]["available_node_types"].values():
        roles.append(kind["labels"][ROLE_LABEL])
    assert all(roles_of({ROLE_LABEL: role}) for role in roles)
    assert {one for role in roles for one in role.split(".")} == ROLES


def test_only_pods_that_start_sandboxes_are_privileged_and_they_have_nodes_of_their_own() -> None:
    for group in ray_cluster()["workerGroupSpecs"]:
        spec = group["template"]["spec"]
        privileged = any(one.get("securityContext", {}).get("privileged") for one in spec["containers"])
        assert privileged == (group["groupName"] in ("cpu", "gpu"))
        assert not privileged or (spec["tolerations"] and spec["nodeSelector"])


def test_the_pods_have_a_token_and_few_rights() -> None:
    kinds = {document["kind"]: document for path in KUBE_FILES for document in documents(path)}
    assert {"RayCluster", "ServiceAccount", "Role", "RoleBinding", "PodDisruptionBudget", "RuntimeClass"} <= set(kinds)
    assert kinds["ServiceAccount"]["automountServiceAccountToken"] is False
    assert all("*" not in json.dumps(rule) for rule in kinds["Role"]["rules"])
    head = ray_cluster()["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert {"name": "RAY_AUTH_MODE", "value": "token"} in head["env"]
