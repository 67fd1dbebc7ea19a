"""The Kubernetes objects: valid by the API's own schema, and closed as far as they can be."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from deployment_files import KUBERNETES, ROOT, documents, named, settings, tool

from batchscan import __version__

FILES = sorted(KUBERNETES.glob("*.yaml"))
OBJECTS = [path for path in FILES if path.name != "kustomization.yaml"]
VERSIONS = ("1.31", "1.37")
WORKLOADS = ("Deployment", "CronJob")


def pod(kind: str) -> dict[str, Any]:
    spec: dict[str, Any] = named(kind)["spec"]
    spec = spec["jobTemplate"]["spec"] if kind == "CronJob" else spec
    found: dict[str, Any] = spec["template"]["spec"]
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_the_schema_of_kubernetes_takes_them(version: str) -> None:
    validate = tool("kubernetes-validate")
    done = subprocess.run(
        [validate, "--strict", "--kubernetes-version", version, *map(str, OBJECTS)],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert told.count(" passed for resource ") == sum(len(documents(path)) for path in OBJECTS)


def test_kustomize_puts_them_together(tmp_path: Path) -> None:
    kustomization = documents(KUBERNETES / "kustomization.yaml")[0]
    listed = {*kustomization["resources"], "cronjob.yaml"}  # the latter is there, and not in use
    assert listed == {path.name for path in OBJECTS}
    (image,) = kustomization["images"]
    assert image == {"name": "batchscan", "newTag": __version__}
    done = subprocess.run(
        [tool("kubectl"), "kustomize", str(KUBERNETES)],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    assert f"image: batchscan:{__version__}" in done.stdout


# What a schema does not say. Where the schema cannot be had, this is all that is checked.


@pytest.mark.parametrize("kind", WORKLOADS)
def test_a_pod_can_do_nothing_but_its_work(kind: str) -> None:
    spec = pod(kind)
    user = (ROOT / "Dockerfile").read_text().partition("\nUSER ")[2].partition("\n")[0]
    assert spec["automountServiceAccountToken"] is False
    context = spec["securityContext"]
    assert f"{context['runAsUser']}:{context['runAsGroup']}" == user
    assert context["runAsNonRoot"] is True
    assert context["fsGroup"] == context["runAsGroup"]
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    (container,) = spec["containers"]
    assert container["image"] == "batchscan"
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(container["resources"]) == {"requests", "limits"}
    assert "env" not in container, "keys are files, which are read anew when they change"


@pytest.mark.parametrize("kind", WORKLOADS)
def test_only_the_state_and_a_scratch_directory_can_be_written(kind: str) -> None:
    spec = pod(kind)
    (container,) = spec["containers"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in spec["volumes"]}
    assert {name for name, mount in mounts.items() if not mount.get("readOnly")} == {"state", "tmp"}
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert volumes["state"]["persistentVolumeClaim"]["claimName"] == "batchscan-state"
    assert all(v["secret"]["defaultMode"] == 0o440 for v in spec["volumes"] if "secret" in v)
    claims = {d["metadata"]["name"] for d in documents(KUBERNETES / "storage.yaml")}
    assert claims == {
        volume["persistentVolumeClaim"]["claimName"]
        for volume in spec["volumes"]
        if "persistentVolumeClaim" in volume
    }


def test_there_is_one_service_and_it_is_probed() -> None:
    spec = named("Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    (container,) = pod("Deployment")["containers"]
    port = settings()["kubernetes"]["service"]["port"]
    assert container["ports"] == [{"name": "http", "containerPort": port}]
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert container["startupProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert named("Service")["spec"]["ports"] == [{"name": "http", "port": port, "targetPort": "http"}]
    (opened,) = named("NetworkPolicy")["spec"]["ingress"][0]["ports"]
    assert opened["port"] == port


def test_two_nights_never_overlap_and_none_lasts_for_ever() -> None:
    spec = named("CronJob")["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert 0 < spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] < 24 * 3600
    assert spec["startingDeadlineSeconds"] > 0
    assert pod("CronJob")["restartPolicy"] == "Never"  # which podFailurePolicy asks for


def test_everything_that_is_selected_is_there() -> None:
    labels = named("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert named("Deployment")["spec"]["selector"]["matchLabels"] == labels
    assert named("Service")["spec"]["selector"] == labels
    assert named("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels


def test_no_secret_is_in_a_file() -> None:
    assert not [d for path in OBJECTS for d in documents(path) if d["kind"] == "Secret"]
    assert "secret_key" not in json.dumps(settings())
