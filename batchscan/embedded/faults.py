"""Carries out the drill's faults on one request: before it is processed, on its fields, on its answer."""

import asyncio
import socket
import struct
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from batchscan.embedded.drill import Fault, Kind
from batchscan.embedded.wire import Site, failed_data, failure, not_found_data, parse_content_hash

JSON_TYPE = "application/json"  # exactly: with a charset the vendor's SDK does not see errors
_CHUNK = b" " * 65_536
_LINGER_OFF = struct.pack("ii", 1, 0)
_PAGE = b"<html><head><title>Error</title></head><body><h1>Error</h1></body></html>"
_DRILL = "A drill asked for this error."


def skew_s(faults: Sequence[Fault]) -> float:
    """By how much the server's clock is off, seconds."""
    return sum(fault.number for fault in faults if fault.kind is Kind.SKEW)


async def instead(
    faults: Sequence[Fault], request: web.Request, request_id: str
) -> web.StreamResponse | None:
    """Wait as asked; then what is answered without processing, or None."""
    for fault in faults:
        if fault.kind is Kind.DELAY:
            await asyncio.sleep(fault.number)
    for fault in faults:
        match fault.kind:
            case Kind.RESET_BEFORE:
                return _reset(request)
            case Kind.CODE:
                return reply(failure(fault.text, _DRILL, request_id))
            case Kind.HTTP:
                return web.Response(
                    status=int(fault.number), body=_PAGE, headers={"Content-Type": "text/html"}
                )
            case Kind.HTTP_JSON:
                body = failure("InternalError", _DRILL, request_id)
                return reply(body, status=int(fault.number))
    return None


def alter(faults: Sequence[Fault], fields: dict[str, Any], now: float, site: Site) -> dict[str, Any]:
    """The fields of the answer, made wrong as asked. Only for answers that hold a ``ContentHash``."""
    for fault in faults:
        if fault.kind is Kind.WRONG_HASH:
            fields = fields | {"ContentHash": "sha256:" + "0" * 64}
        elif fault.kind in (Kind.FAILED, Kind.NOT_FOUND):
            digest = parse_content_hash(fields["Data"]["ContentHash"])
            if fault.kind is Kind.NOT_FOUND:
                fields = {"Status": "NOT_FOUND", "Data": not_found_data(digest)}
            else:
                fields = {"Status": "FAILED", "Data": failed_data(digest, now, _DRILL, site)}
    return fields


async def answer(faults: Sequence[Fault], request: web.Request, body: bytes) -> web.StreamResponse:
    """The answer to a processed request, damaged as asked."""
    content_type = JSON_TYPE
    for fault in faults:
        match fault.kind:
            case Kind.RESET_AFTER:
                return _reset(request)
            case Kind.TRUNCATE:
                return await _truncate(request, body)
            case Kind.HUGE:
                return await _huge(request, body, int(fault.number * 1024 * 1024))
            case Kind.CONTENT_TYPE:
                content_type = fault.text
            case Kind.BAD_JSON:
                body = body[:-1] + b","
            case Kind.NO_RESPONSE:
                body = b'{"Answer":' + body + b"}"
    return web.Response(body=body, headers={"Content-Type": content_type})


def reply(body: bytes, status: int = 200) -> web.Response:
    """An answer of the kind the vendor gives; the content type is exactly what its SDK needs."""
    return web.Response(status=status, body=body, headers={"Content-Type": JSON_TYPE})


def _reset(request: web.Request) -> web.StreamResponse:
    transport = request.transport
    if transport is not None:
        # Linger 0 makes the close a reset; without it the caller may see an orderly end.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
        transport.abort()
    return web.Response()


async def _truncate(request: web.Request, body: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": JSON_TYPE, "Content-Length": str(len(body))})
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


async def _huge(request: web.Request, body: bytes, size: int) -> web.StreamResponse:
    """The true answer after ``size`` bytes of blanks: only a caller with a limit gets away."""
    length = size + len(body)
    response = web.StreamResponse(headers={"Content-Type": JSON_TYPE, "Content-Length": str(length)})
    await response.prepare(request)
    for start in range(0, size, len(_CHUNK)):
        await response.write(_CHUNK[: size - start])
    await response.write(body)
    return response
