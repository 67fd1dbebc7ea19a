"""The compose file: read-only, without a secret in it, and in step with the image and with Kubernetes."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from deployment_files import CONFIGS, ROOT, documents, settings, tool

from batchscan import __version__

COMPOSE: dict[str, Any] = documents(CONFIGS / "compose.yaml")[0]
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


@pytest.mark.parametrize("name", ["batchscan", "prometheus"])
def test_a_container_can_write_to_its_volumes_and_is_reached_from_here_only(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert ":" in service["image"]
    named = [volume.partition(":")[0] for volume in service["volumes"]]
    assert {n for n in named if n.isalnum()} <= COMPOSE["volumes"].keys()
    for volume in service["volumes"]:
        assert volume.endswith(":ro") or volume.partition(":")[0] in COMPOSE["volumes"]


def test_secrets_are_files_and_variables_that_git_and_the_image_do_not_see() -> None:
    service = SERVICES["batchscan"]
    assert "environment" not in service
    assert service["env_file"] == ["compose.env"]
    example = (CONFIGS / "compose.env.example").read_text()
    assert all(line.endswith("=") for line in example.splitlines() if not line.startswith("#"))
    assert set(service["secrets"]) | set(SERVICES["prometheus"]["secrets"]) == COMPOSE["secrets"].keys()
    ignored = subprocess.run(
        ["git", "check-ignore", "configs/compose.env", "configs/secrets/token"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    if (ROOT / ".git").exists():
        assert len(ignored.stdout.splitlines()) == 2
    context = (ROOT / ".dockerignore").read_text().splitlines()
    assert context[1] == "*"
    assert not {"!configs", "!configs/"} & set(context)
    assert "!configs/*.lock" in context


def test_the_image_is_ours_and_the_port_is_the_services() -> None:
    service = SERVICES["batchscan"]
    assert service["image"] == f"batchscan:{__version__}"
    assert (CONFIGS / service["build"]["context"] / "Dockerfile").resolve() == ROOT / "Dockerfile"
    port = settings()["compose"]["service"]["port"]
    assert service["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f":{port}/readyz" in service["healthcheck"]["test"][-1]
    scraped = documents(CONFIGS / "prometheus" / "prometheus.yml")[0]["scrape_configs"][0]
    assert scraped["static_configs"] == [{"targets": [f"batchscan:{port}"]}]
    assert scraped["authorization"] == {"credentials_file": "/run/secrets/prometheus-token"}
    compose, kubernetes = settings()["compose"], settings()["kubernetes"]
    assert compose["service"].pop("token_file") == "/run/secrets/token"
    kubernetes["service"].pop("token_file")
    assert compose == kubernetes
    assert compose["endpoint"] == "embedded", "nothing leaves the machine before somebody says so"


def test_docker_compose_takes_it(tmp_path: Path) -> None:
    docker = tool("docker")
    plugin = subprocess.run([docker, "compose", "version"], capture_output=True, check=False, timeout=50)
    if plugin.returncode:
        pytest.skip("docker has no compose plugin")
    place = tmp_path / "configs"
    shutil.copytree(CONFIGS, place)
    shutil.copy(place / "compose.env.example", place / "compose.env")
    done = subprocess.run(
        [docker, "compose", "-f", str(place / "compose.yaml"), "config", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
        env=os.environ | {"SKILLS": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
