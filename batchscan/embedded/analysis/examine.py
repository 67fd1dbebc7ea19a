"""One judgement from start to end, inside a worker: read the ZIP, look at all of it, fuse what was seen."""

import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from batchscan.embedded.analysis import static
from batchscan.embedded.analysis.invisible import look_for_hidden
from batchscan.embedded.analysis.mapping import judge
from batchscan.embedded.analysis.opaque import look_at
from batchscan.embedded.analysis.signals import FusedRule, Signal
from batchscan.embedded.analysis.unpack import Contents, read_zip, write_tree
from batchscan.embedded.detection import Detection
from batchscan.models import RiskLevel

Engine = Callable[[Path, int], static.Analysis]

_MAX_SKILL_MD_BYTES = 1_000_000


def examine(content: bytes, job: Path, engine: Engine) -> Detection:
    """Judge one ZIP; ``job`` is created for it and removed again.

    Raises:
        UnreadableZipError: there is nothing to judge.
        Exception: whatever the engine raises.
    """
    contents = read_zip(content)
    signals = list(contents.signals)
    for name, data in contents.files.items():
        signals += look_at(name, data)
        signals += look_for_hidden(name, data)
    skill_md = find_skill_md(contents)
    signals += _about_skill_md(contents, skill_md)
    capabilities: list[str] = []
    if contents.files:
        root = job / _root(contents, skill_md)
        job.mkdir(mode=0o700)
        try:
            write_tree(contents.files, job)
            found = engine(root, len(contents.files))
        finally:
            shutil.rmtree(job)
        signals += found.signals
        capabilities = found.capabilities
    text = contents.files[skill_md][:_MAX_SKILL_MD_BYTES].decode("utf-8", "replace") if skill_md else ""
    title, description = static.front_matter(text)
    return judge(
        signals,
        file_count=contents.file_count,
        capabilities=capabilities,
        name=title,
        description=description,
    )


def find_skill_md(contents: Contents) -> str | None:
    """The shallowest SKILL.md, in any case: its directory is the skill's root."""
    found = [name for name in contents.files if PurePosixPath(name).name.lower() == "skill.md"]
    return min(found, key=lambda name: (name.count("/"), name), default=None)


def _about_skill_md(contents: Contents, skill_md: str | None) -> list[Signal]:
    if skill_md is None:
        return [
            Signal(RiskLevel.SUSPICIOUS, FusedRule.OTHER, "no SKILL.md: not a skill that could be judged")
        ]
    size = len(contents.files[skill_md])
    if size > _MAX_SKILL_MD_BYTES:
        return [
            Signal(RiskLevel.SUSPICIOUS, FusedRule.OBFUSCATION, f"SKILL.md of {size} bytes is beyond reason")
        ]
    return []


def _root(contents: Contents, skill_md: str | None) -> str:
    """Where analysis starts: the skill's root, or the archive's when something lies outside of it."""
    if skill_md is None or "/" not in skill_md:
        return "."
    root = skill_md.rpartition("/")[0]
    return root if all(name.startswith(root + "/") for name in contents.files) else "."
