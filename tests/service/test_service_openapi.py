"""The OpenAPI document says what the service does, and the service does what it says."""

import asyncio
import re
import sys
from collections.abc import Iterator
from typing import Any

import jsonschema
import msgspec
from cli_lab import TOKEN, skills
from service_lab import API, ServiceLab

from batchscan.explain import Explanation, FileSeen, Judged, RunMention, Standing
from batchscan.quota import Quota
from batchscan.report.summary import Summary
from batchscan.schedule_list import LastRun, ListedSchedule, Moment, ScheduleList
from batchscan.service import lookup_api, schedules_api
from batchscan.service.app import OPERATIONS, make_app
from batchscan.service.guard import is_view
from batchscan.service.openapi import openapi_document
from batchscan.service.quota_note import QuotaDocument
from batchscan.service_config import ServiceConfig
from batchscan.settings import settle

OUTSIDE = {"/healthz", "/readyz", "/metrics", f"{API}/openapi.json"}
"""Routes that are no part of the API."""


def schemas(part: Any) -> Iterator[dict[str, Any]]:
    """Every schema in a document."""
    if isinstance(part, dict):
        if isinstance(part.get("schema"), dict):
            yield part["schema"]
        for value in part.values():
            yield from schemas(value)
    elif isinstance(part, list):
        for value in part:
            yield from schemas(value)


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def test_every_route_is_described_and_every_description_routed(lab: ServiceLab) -> None:
    lab.settings(None)
    settled = settle({"state_dir": str(lab.state)})
    app = make_app({}, settled, ServiceConfig())
    document = openapi_document(OPERATIONS, with_token=False)
    described = {
        (method.upper(), API + path) for path, methods in document["paths"].items() for method in methods
    }
    routed = {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None
        and route.resource.canonical not in OUTSIDE
        and not is_view(route.resource.canonical)
    }
    assert routed == described
    names = [operation.name for operation in OPERATIONS]
    assert len(names) == len(set(names))


def test_the_document_is_sound() -> None:
    document = openapi_document(OPERATIONS, with_token=True)
    assert document["openapi"] == "3.1.0"
    assert document["security"] == [{"token": []}]
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    used = set(references(document))
    assert used <= known
    for schema in (*document["components"]["schemas"].values(), *schemas(document["paths"])):
        jsonschema.Draft202012Validator.check_schema(schema)
    for path, methods in document["paths"].items():
        for described in methods.values():
            named = {p["name"] for p in described.get("parameters", ()) if p["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path))
            assert {"401", "404", "422", "429", "500", "503"} <= described["responses"].keys()


def test_documents_have_the_keys_of_the_records_that_they_show() -> None:
    for model, record in (
        (lookup_api.Content, Explanation),
        (lookup_api.SeenFile, FileSeen),
        (lookup_api.StandingDocument, Standing),
        (lookup_api.VerdictDocument, Judged),
        (lookup_api.Mention, RunMention),
        (QuotaDocument, Quota),
        (schedules_api.ScheduleListDocument, ScheduleList),
        (schedules_api.ScheduleDocument, ListedSchedule),
        (schedules_api.LastRunDocument, LastRun),
        (schedules_api.MomentDocument, Moment),
    ):
        keys = [field.alias or name for name, field in model.model_fields.items()]
        assert keys == [field.encode_name for field in msgspec.structs.fields(record)]
    assert "run_id" in Summary.__struct_fields__


async def test_schemathesis_finds_nothing(lab: ServiceLab) -> None:
    """It sends what the document allows and what it forbids, and compares the answers with the document."""
    skills(lab.inputs, 2)
    token = lab.path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    settings = lab.settings(None, {"token_file": "token", "request_rate": 100_000.0})
    async with lab.serving(settings, token=TOKEN) as serving:
        await serving.ended((await serving.order({"sources": [str(lab.inputs)]}))["run_id"])
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{serving.url}{API}/openapi.json"),
            *("--header", f"Authorization: Bearer {TOKEN}", "--checks", "all", "--max-examples", "15"),
            *("--exclude-operation-id", "followAll", "--exclude-operation-id", "followRun"),
            *("--generation-deterministic", "--no-color"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=lab.path,
        )
        out, _ = await process.communicate()
        told = out.decode()
        assert process.returncode == 0, told[-6000:]
        found = re.search(r"(\d+) generated", told)
        assert found is not None
        assert int(found[1]) > 150
        assert (await serving.ask("GET", "/healthz")).status == 200
