"""Paths of a report as relative URIs (RFC 3986) that stay below the root, whatever an author named a file."""

import hashlib
import posixpath
from functools import lru_cache
from urllib.parse import quote

from batchscan.formats.finding import PATH_LIMIT
from batchscan.models import Row
from batchscan.report.text import encodable

_UP = "_up_"


def relative_uri(row: Row) -> str:
    """Say where an input is, from the directory that the scan was started in.

    A source that was named relative to that directory goes before the path; one that was not is left out.
    No scheme, no authority, no ``.`` or ``..``: ``..`` becomes ``_up_``, a leading slash goes.
    """
    path = row.path if len(row.path) <= PATH_LIMIT else _cut(row.path)
    whole = path if path.startswith("/") else f"{_directory(row.source, row)}/{path}"
    parts = [_part(part) for part in encodable(whole).split("/") if part not in {"", "."}]
    return "/".join(parts) or "_unnamed_"


def _directory(source: str, row: Row) -> str:
    if source in {"-", row.path}:
        return ""  # a list on standard input, or the file itself
    return _root(source, row.manifest_line is not None)


@lru_cache(maxsize=256)
def _root(source: str, is_manifest: bool) -> str:
    if source.startswith("/") or len(source) > PATH_LIMIT:
        return ""
    root = posixpath.normpath(posixpath.dirname(source) if is_manifest else source)
    return "" if root.startswith("..") else root


def _part(part: str) -> str:
    return _UP if part == ".." else quote(part, safe="")


def _cut(path: str) -> str:
    digest = hashlib.sha256(path.encode(errors="surrogatepass")).hexdigest()
    return f"{path[: PATH_LIMIT - 20]}~{digest[:16]}"
