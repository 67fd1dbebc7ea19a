"""From a Create body to the bytes of a ZIP: pure and CPU-bound, so that it can run off the event loop.

The vendor documents one limit ("7MB before encoding, only a valid ZIP") and no codes; all three
mistakes are answered as ``InvalidParameterValue``.
"""

import hashlib
import io
import struct
import zipfile

import msgspec
import pybase64

from batchscan.embedded.wire import CreateRequest, WireError, parse_request


class Upload(msgspec.Struct, frozen=True):
    """One ZIP and its SHA-256."""

    digest: bytes
    content: bytes


def read_upload(body: bytes, limit_bytes: int) -> Upload:
    """Parse a Create body.

    Raises:
        WireError: see ``parse_request``; ``InvalidParameterValue``: not base64, above the limit, no ZIP.
    """
    text = parse_request(body, CreateRequest).file_base64
    if len(text) // 4 * 3 - 2 > limit_bytes:  # padding is at most two characters
        raise _too_large(limit_bytes)
    try:
        content = pybase64.b64decode(text, validate=True)
    except ValueError as error:
        raise WireError("InvalidParameterValue", "`FileBase64` is not standard base64.") from error
    if len(content) > limit_bytes:
        raise _too_large(limit_bytes)
    _check_zip(content)
    return Upload(digest=hashlib.sha256(content).digest(), content=content)


def _too_large(limit_bytes: int) -> WireError:
    return WireError("InvalidParameterValue", f"The file is larger than {limit_bytes} bytes.")


def _check_zip(content: bytes) -> None:
    """Read the central directory; nothing is decompressed."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)):
            return
    # What zipfile raises for crafted directories besides its own error (seen by fuzzing it).
    except (
        zipfile.BadZipFile,
        OSError,
        ValueError,
        NotImplementedError,
        struct.error,
        OverflowError,
    ) as error:
        raise WireError("InvalidParameterValue", "The file is not a valid ZIP.") from error
