"""Problems: every refusal is one document (RFC 9457), whoever refused."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Final

from aiohttp import web
from pydantic import ValidationError

from batchscan.report.text import encodable
from batchscan.service.documents import Fault, ProblemDocument

PROBLEM_TYPE: Final = "application/problem+json"
_MOST_FAULTS: Final = 50
_LONGEST: Final = 2000

_CODES: Final = {
    400: "bad-request",
    401: "unauthorized",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    409: "conflict",
    413: "too-large",
    415: "unsupported-media-type",
    417: "expectation-failed",
    421: "misdirected",
    422: "invalid",
    429: "too-many-requests",
    500: "internal-error",
    502: "bad-gateway",
    503: "unavailable",
    504: "gateway-timeout",
}


class RefusedError(Exception):
    """A request is not carried out.

    Attributes:
        status: of HTTP.
        detail: what is wrong and what to do about it.
        code: of the problem, in kebab case; None: the usual one of the status.
        faults: single things that are wrong.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        code: str | None = None,
        faults: Iterable[Fault] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.code = code
        self.faults = tuple(faults)
        self.headers = dict(headers or {})


def problem_response(request: web.Request, refused: RefusedError, request_id: str) -> web.Response:
    """Write the document."""
    code = refused.code or _CODES.get(refused.status, "error")
    document = ProblemDocument(
        type=f"urn:batchscan:problem:{code}",
        title=HTTPStatus(refused.status).phrase,
        status=refused.status,
        detail=encodable(refused.detail)[:_LONGEST],
        instance=encodable(request.path)[:_LONGEST],
        request_id=request_id,
        errors=refused.faults,
    )
    return web.Response(
        status=refused.status,
        body=document.model_dump_json().encode(),
        content_type=PROBLEM_TYPE,
        headers=refused.headers,
    )


def from_http(error: web.HTTPException) -> RefusedError:
    """Take over what aiohttp refuses by itself."""
    details = {
        404: "there is nothing here; GET /api/v1/openapi.json tells what there is",
        405: "this method is not for this path; see the Allow header",
        413: "the body is larger than the service takes",
    }
    status = error.status_code
    kept = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
    return RefusedError(status, details.get(status, error.reason), headers=kept)


def invalid(error: ValidationError, where: str) -> RefusedError:
    """Say what is wrong with a request; no value is repeated."""
    faults = [
        Fault(where="/".join([where, *map(str, found["loc"])])[:_LONGEST], what=found["msg"][:_LONGEST])
        for found in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    kind = {"query": "the query", "body": "the body"}.get(where, where)
    return RefusedError(
        422,
        f"{kind} is not what is asked for: {faults[0].where}: {faults[0].what}",
        faults=[Fault(where=encodable(f.where), what=encodable(f.what)) for f in faults[:_MOST_FAULTS]],
    )
