"""The OpenAPI 3.1 document, made from the operations and the models that they read and write."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from batchscan import __version__
from batchscan.service.documents import ProblemDocument
from batchscan.service.operations import JSON, PATH_PARAMETERS, PREFIX, Answer, Operation
from batchscan.service.problems import PROBLEM_TYPE

_COMMON: Final = {
    400: "The request cannot be read.",
    401: "The token is missing or wrong.",
    403: "A page of another origin sent it.",
    404: "There is no such thing.",
    413: "The request is too large.",
    421: "The service is not known by this name.",
    422: "The request is not what is asked for.",
    429: "Too many requests.",
    500: "A defect of batchscan.",
    503: "The ledger fails, the service is stopping, or as many answers are under way as there may be.",
}
_REFERENCE: Final = "#/components/schemas/{model}"

_Modes = Mapping[Any, dict[str, Any]]


def openapi_document(operations: Sequence[Operation], *, with_token: bool) -> dict[str, Any]:
    """Describe all operations.

    Args:
        operations: of all rooms.
        with_token: whether callers must show one.
    """
    schemas, definitions = models_json_schema(sorted(_models(operations), key=str), ref_template=_REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation, schemas)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "batchscan",
            "version": __version__,
            "summary": "Runs of an audit of skill ZIPs: ask for them, follow them, read what they found.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": PREFIX}],
        "paths": paths,
        "components": {"schemas": definitions.get("$defs", {})},
    }
    if with_token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def _models(operations: Sequence[Operation]) -> set[tuple[type[BaseModel], JsonSchemaMode]]:
    found: set[tuple[type[BaseModel], JsonSchemaMode]] = {(ProblemDocument, "serialization")}
    for operation in operations:
        if operation.body is not None:
            found.add((operation.body, "validation"))
        found |= {(a.model, "serialization") for a in operation.answers.values() if a.model is not None}
    return found


def _described(operation: Operation, schemas: _Modes) -> dict[str, Any]:
    answers = {str(status): _answer(answer, schemas) for status, answer in operation.answers.items()}
    problem = {PROBLEM_TYPE: {"schema": schemas[ProblemDocument, "serialization"]}}
    refusals = {**_COMMON, **operation.refusals}
    for status in sorted(refusals):
        headers = {"Retry-After": "seconds to wait"} if status in (429, 503) else {}
        answers[str(status)] = {
            "description": refusals[status],
            "content": problem,
            **({"headers": _headers(headers)} if headers else {}),
        }
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "responses": answers,
    }
    if operation.about:
        described["description"] = operation.about
    parameters = [*_path_parameters(operation), *_query_parameters(operation), *_header_parameters(operation)]
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        content = {JSON: {"schema": schemas[operation.body, "validation"]}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _answer(answer: Answer, schemas: _Modes) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.what}
    schema = {} if answer.model is None else schemas[answer.model, "serialization"]
    if answer.media:
        described["content"] = {media: {"schema": schema} if schema else {} for media in answer.media}
    if answer.headers:
        described["headers"] = _headers(answer.headers)
    return described


def _headers(headers: Mapping[str, str]) -> dict[str, Any]:
    return {name: {"description": what, "schema": {"type": "string"}} for name, what in headers.items()}


def _path_parameters(operation: Operation) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": TypeAdapter(PATH_PARAMETERS[name]).json_schema(),
        }
        for name in re.findall(r"{(\w+)}", operation.path)
    ]


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    if operation.query is None:
        return []
    schema = operation.query.model_json_schema(ref_template=_REFERENCE)
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            "schema": {key: value for key, value in found.items() if key not in ("title", "description")},
            **({"description": found["description"]} if "description" in found else {}),
        }
        for name, found in schema["properties"].items()
    ]


def _header_parameters(operation: Operation) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "header",
            "required": False,
            "description": what,
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        }
        for name, what in operation.headers.items()
    ]
