"""Bytes that source analysis cannot look into: what they are, and what that means.

Media that has the look of its name (a PNG called ``.png``) is inert to an agent and stays silent. All
other binary content is a gap in the scan, and a gap is never benign.
"""

from pathlib import PurePosixPath

from batchscan.embedded.analysis.names import printable
from batchscan.embedded.analysis.signals import FusedRule, Signal
from batchscan.models import RiskLevel

_SNIFF_BYTES = 8000  # git's window: a NUL within it makes content binary
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")

_ARCHIVES = (
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ\x00",
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!\x1a\x07",
    b"\x28\xb5\x2f\xfd",
    b"!<arch>\n",
    b"MSCF",
    b"\xed\xab\xee\xdb",
)
_TAR_MAGIC = (257, b"ustar")
_EXECUTABLES = (
    b"\x7fELF",
    b"MZ",
    b"\xfe\xed\xfa\xce",
    b"\xfe\xed\xfa\xcf",
    b"\xce\xfa\xed\xfe",
    b"\xcf\xfa\xed\xfe",
    b"\xca\xfe\xba\xbe",
    b"\x00asm",
    b"dex\n",
)
_ARCHIVE_SUFFIXES = frozenset(
    {
        ".zip",
        ".jar",
        ".whl",
        ".egg",
        ".gz",
        ".tgz",
        ".bz2",
        ".xz",
        ".zst",
        ".7z",
        ".rar",
        ".tar",
        ".cab",
        ".deb",
    }
)
_MEDIA: dict[bytes, frozenset[str]] = {
    b"\x89PNG\r\n\x1a\n": frozenset({".png", ".apng"}),
    b"\xff\xd8\xff": frozenset({".jpg", ".jpeg"}),
    b"GIF8": frozenset({".gif"}),
    b"RIFF": frozenset({".webp", ".wav", ".avi"}),
    b"BM": frozenset({".bmp"}),
    b"\x00\x00\x01\x00": frozenset({".ico"}),
    b"II*\x00": frozenset({".tif", ".tiff"}),
    b"MM\x00*": frozenset({".tif", ".tiff"}),
    b"ID3": frozenset({".mp3"}),
    b"\xff\xfb": frozenset({".mp3"}),
    b"OggS": frozenset({".ogg", ".oga", ".ogv"}),
    b"fLaC": frozenset({".flac"}),
    b"\x1aE\xdf\xa3": frozenset({".webm", ".mkv"}),
    b"wOFF": frozenset({".woff"}),
    b"wOF2": frozenset({".woff2"}),
    b"OTTO": frozenset({".otf"}),
    b"\x00\x01\x00\x00": frozenset({".ttf"}),
    b"true": frozenset({".ttf"}),
    b"ttcf": frozenset({".ttc"}),
    b"\x00\x05\x16\x07": frozenset({""}),  # AppleDouble, macOS's companion files
    b"\x00\x00\x00\x01Bud1": frozenset({""}),  # .DS_Store
}
_ISO_MEDIA = (4, b"ftyp")
_ISO_MEDIA_SUFFIXES = frozenset({".mp4", ".m4a", ".m4v", ".mov", ".avif", ".heic"})


def look_at(name: str, data: bytes) -> list[Signal]:
    """The gap that this file is; nothing when its bytes are text or plain media."""
    path = PurePosixPath(name)
    suffix = path.suffix.lower()
    if (
        data.startswith(_ARCHIVES)
        or _at(data, _TAR_MAGIC)
        or (suffix in _ARCHIVE_SUFFIXES and _is_binary(data))
    ):
        return _gap(f"nested archive, not looked into: {printable(name)}")
    if not _is_binary(data):
        return []
    if data.startswith(_EXECUTABLES):
        return _gap(f"compiled program, not looked into: {printable(name)}")
    if _at(data, _ISO_MEDIA) and suffix in _ISO_MEDIA_SUFFIXES:
        return []
    # A companion file of macOS carries the suffix of the file it belongs to.
    shown_suffix = "" if path.name.startswith("._") or path.name == ".DS_Store" else suffix
    if any(data.startswith(magic) and shown_suffix in suffixes for magic, suffixes in _MEDIA.items()):
        return []
    return _gap(f"binary content, not looked into: {printable(name)}")


def _gap(text: str) -> list[Signal]:
    return [Signal(RiskLevel.SUSPICIOUS, FusedRule.OBFUSCATION, text)]


def _at(data: bytes, magic: tuple[int, bytes]) -> bool:
    offset, expected = magic
    return data[offset : offset + len(expected)] == expected


def _is_binary(data: bytes) -> bool:
    return b"\x00" in data[:_SNIFF_BYTES] and not data.startswith(_WIDE_BOMS)
