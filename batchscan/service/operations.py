"""Operations: each route of the API with its description, in one place, so that neither is without the other.

A room adds its own as ``OPERATIONS``; ``app`` routes them all, ``openapi`` describes them all.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Final, TypeVar, get_origin

import msgspec
from aiohttp import web
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from batchscan.service.documents import RunId
from batchscan.service.problems import RefusedError, invalid

PREFIX: Final = "/api/v1"
JSON: Final = "application/json"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Model = TypeVar("Model", bound=BaseModel)

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", examples=["0" * 64])]

ScheduleName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", examples=["nightly"])]

PATH_PARAMETERS: Final[Mapping[str, Any]] = {"run_id": RunId, "sha256": Sha256, "name": ScheduleName}
"""By name, as it stands in a path. A value of another form is not found."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What may come back.

    Attributes:
        what: in words.
        model: of the document; None where it is none of ours.
        media: types of the content; empty without any.
        headers: that it has, and what they say.
    """

    what: str
    model: type[BaseModel] | None = None
    media: tuple[str, ...] = (JSON,)
    headers: Mapping[str, str] = {}


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One route.

    Attributes:
        method, path: below ``PREFIX``, with parameters in braces.
        name: of the operation, unique.
        summary: a line of words.
        about: more of them.
        handler: carries it out.
        answers: when it was carried out, by status.
        refusals: statuses of problem documents, beside those that every route may answer with.
        query: parameters of the query.
        headers: parameters in headers: name to what it is for.
        body: what is sent.
    """

    method: str
    path: str
    name: str
    summary: str
    handler: Handler
    answers: Mapping[int, Answer]
    about: str = ""
    refusals: Mapping[int, str] = {}
    query: type[BaseModel] | None = None
    headers: Mapping[str, str] = {}
    body: type[BaseModel] | None = None


_ADAPTERS: Final = {name: TypeAdapter(kind) for name, kind in PATH_PARAMETERS.items()}


def path_parameter(request: web.Request, name: str) -> str:
    """Read a parameter of the path.

    Raises:
        RefusedError: it has not the form of one, so there is no such thing.
    """
    try:
        value: str = _ADAPTERS[name].validate_python(request.match_info[name])
    except ValidationError as error:
        raise RefusedError(404, f"there is no such thing: {name} has another form") from error
    return value


def read_query(request: web.Request, model: type[Model]) -> Model:
    """Read the query.

    Raises:
        RefusedError: it is not what is asked for.
    """
    given: dict[str, Any] = {}
    for name in request.query:
        values = request.query.getall(name)
        field = model.model_fields.get(name)
        if field is not None and get_origin(field.annotation) is tuple:
            given[name] = values
        elif len(values) > 1:
            raise RefusedError(422, f"the query has {name[:100]} more than once")
        else:
            given[name] = values[0]
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise invalid(error, "query") from error


async def read_body(request: web.Request, model: type[Model]) -> Model:
    """Read the body, which must be JSON and say so.

    Raises:
        RefusedError: it is not what is asked for, or too large.
    """
    if request.content_type != JSON:
        raise RefusedError(415, f"send {JSON}, and say so in Content-Type")
    body = await request.read()
    try:
        # strict: what JSON has of its own kinds is not taken for another
        return model.model_validate_json(body, strict=True)
    except ValidationError as error:
        if error.errors(include_url=False)[0]["type"] == "json_invalid":
            raise RefusedError(400, "the body is not JSON") from error
        raise invalid(error, "body") from error


async def no_body(request: web.Request) -> None:
    """Refuse a body where none is asked for: nothing is silently ignored.

    Raises:
        RefusedError: there is one.
    """
    if request.can_read_body and await request.read():
        raise RefusedError(400, "this takes no body")


def json_response(
    document: BaseModel, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Answer with a document."""
    return web.Response(
        status=status,
        body=document.model_dump_json(by_alias=True).encode(),
        content_type=JSON,
        headers=headers,
    )
