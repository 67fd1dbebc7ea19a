#!/usr/bin/env python3
"""Build the sample ZIPs from their sources, the same bytes each time: ``build.py [--check]``.

Entries sorted by the bytes of their path, DOS time 2000-01-01, Deflate, no extra fields, files only: what
the vendor advises for archives whose hash is to be stable (vendor: Skill detection, deterministic ZIPs).
Deflate's output depends on the zlib at hand, so ``--check`` compares what the entries hold.
"""

import argparse
import io
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
KINDS = ("benign", "malicious")
EPOCH = (2000, 1, 1, 0, 0, 0)
UNIX, FILE_MODE = 3, 0o100644


def build(source: Path) -> bytes:
    """The ZIP of one skill's directory."""
    files = {path.relative_to(source).as_posix(): path for path in source.rglob("*") if path.is_file()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(files, key=lambda name: name.encode()):
            info = zipfile.ZipInfo(name, EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = UNIX
            info.external_attr = FILE_MODE << 16
            archive.writestr(info, files[name].read_bytes(), compresslevel=9)
    return buffer.getvalue()


def entries(content: bytes) -> list[tuple[object, ...]]:
    """All that must agree between two builds of one source."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [
            (i.filename, i.date_time, i.compress_type, i.create_system, i.external_attr, i.extra, archive.read(i))
            for i in archive.infolist()
        ]


def differences() -> list[str]:
    """What is wrong with the committed ZIPs, one line each."""
    wrong = [f"{path}: a ZIP among the sources" for path in (HERE / "sources").rglob("*.zip")]
    for kind in KINDS:
        sources = {path.name: path for path in (HERE / "sources" / kind).iterdir()}
        built = {path.stem: path for path in (HERE / kind).glob("*.zip")}
        wrong += [f"{kind}/{name}: only one of source and ZIP" for name in sorted(sources.keys() ^ built.keys())]
        wrong += [
            f"{kind}/{name}: the ZIP is not what its source builds"
            for name in sorted(sources.keys() & built.keys())
            if entries(build(sources[name])) != entries(built[name].read_bytes())
        ]
    return wrong


def main() -> int:
    """Build or check; 1 when a check finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    if parser.parse_args().check:
        wrong = differences()
        print(*wrong, sep="\n", end="\n" if wrong else "", file=sys.stderr)
        return 1 if wrong else 0
    for kind in KINDS:
        (HERE / kind).mkdir(exist_ok=True)
        for source in sorted((HERE / "sources" / kind).iterdir()):
            (HERE / kind / f"{source.name}.zip").write_bytes(build(source))
    return 0


if __name__ == "__main__":
    sys.exit(main())
