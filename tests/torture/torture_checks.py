"""The promises, as checks from outside: by the inputs, the report, the submissions and the ledger's file.

A promise that does not hold raises ``BrokenPromiseError``.
"""

import hashlib
import json
import shutil
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torture_server import judgement

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.tree import skill_zip as skill_zip  # noqa: PLC0414 - one place says where it comes from

_NONE: frozenset[str] = frozenset()

Row = dict[str, Any]
Key = tuple[str, str, int | None]


class BrokenPromiseError(AssertionError):
    """Something that is promised did not hold; the message says what."""


def promise(held: object, what: object) -> None:
    if not held:
        raise BrokenPromiseError(what)


@dataclass(frozen=True)
class Tree:
    """Inputs of a run, and what each is.

    Attributes:
        args: sources of the command line.
        inputs: how many rows a whole report has.
        digests: of the content that is to be submitted, in hex.
    """

    args: tuple[str, ...]
    inputs: int
    digests: frozenset[str]


def make_tree(directory: Path, count: int, *, first: int = 0, mixed: bool = True) -> Tree:
    """So many distinct skills under ``directory``; mixed with copies, bad files and a list with faults.

    Args:
        directory: the source; its name is how the source is given, from its parent.
        count: distinct ZIPs.
        first: number of the first: trees of other numbers share no content.
        mixed: add what is no plain, new, readable ZIP.
    """
    digests = set()
    for number in range(count):
        path = directory / f"{number % 7}" / f"skill-{number:05}.zip"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = skill_zip(first + number)
        path.write_bytes(content)
        digests.add(hashlib.sha256(content).hexdigest())
    if not mixed:
        return Tree((directory.name,), count, frozenset(digests))
    copies = [directory / f"{number % 7}" / f"skill-{number:05}.zip" for number in range(0, count, 10)]
    for path in copies:
        shutil.copyfile(path, path.with_name(f"copy-of-{path.name}"))
    for number in range(3):
        (directory / f"text-{number}.zip").write_text("no ZIP")
    listed = [f"{directory.name}/{path.relative_to(directory)}" for path in copies[:5]]
    lines = [json.dumps({"path": path, "id": number}) for number, path in enumerate(listed)]
    lines += ['{"path": "nosuch.zip"}', '{"path": ', '{"id": 7}']
    manifest = directory.with_name(f"{directory.name}.jsonl")
    manifest.write_text("\n".join(lines) + "\n")
    args = (directory.name, "--manifest", manifest.name)
    return Tree(args, count + len(copies) + 3 + len(lines), frozenset(digests))


def read_rows(report: Path, inputs: int) -> dict[Key, Row]:
    """The rows of a whole report: so many, each input once."""
    lines = report.read_bytes().split(b"\n")
    promise(lines.pop() == b"", f"{report}: the last line has no end")
    rows = [json.loads(line) for line in lines]
    found = {(row["source"], row["path"], row["manifest_line"]): row for row in rows}
    promise(len(rows) == len(found), f"{report}: {len(rows) - len(found)} doubled rows")
    promise(len(rows) == inputs, f"{report}: {len(rows)} rows for {inputs} inputs")
    return found


def check_verdict(row: Row) -> None:
    """A row's verdict is that of its content and of no other."""
    digest = bytes.fromhex(row["sha256"])
    right = judgement(digest)
    found = (row["verdict"], row["score"], row["skill"]["name"], row["primary_rule"] or "")
    wanted = (right.risk_level, right.score, right.skill_name, right.primary_rule_id)
    promise(found == wanted, f"{row['path']}: {found} instead of {wanted}")


def check_report(report: Path, tree: Tree, root: Path, *, failures: frozenset[str] = _NONE) -> dict[Key, Row]:
    """Every input has its row, every row what its bytes deserve.

    Args:
        report: whole.
        tree: the inputs.
        root: what their paths are relative to.
        failures: codes that a row without a verdict may have, beside those of bad inputs.
    """
    rows = read_rows(report, tree.inputs)
    judged = set()
    for (source, path, line), row in rows.items():
        place = root / path if line is not None else root / source / path
        if row["sha256"] is not None:
            truth = hashlib.sha256(place.read_bytes()).hexdigest()
            promise(row["sha256"] == truth, f"{path}: has another digest")
        if row["verdict"] is not None:
            check_verdict(row)
            judged.add(row["sha256"])
        elif row["sha256"] in tree.digests:
            promise((row["error"] or {}).get("code") in failures, f"{path}: no verdict: {row['error']}")
            judged.add(row["sha256"])
        else:
            promise(row["outcome"] == "rejected", f"{path}: {row['outcome']}")
    promise(judged == tree.digests, f"{len(tree.digests - judged)} digests have no row")
    return rows


def essence(rows: dict[Key, Row]) -> dict[Key, tuple[Any, ...]]:
    """What of each row must not depend on how often the run was killed."""
    kept = ("sha256", "verdict", "score", "primary_rule", "engine_version", "duplicate_of", "id")
    return {
        key: (*(row[name] for name in kept), (row["error"] or {}).get("code")) for key, row in rows.items()
    }


@contextmanager
def ledger_copy(state: Path) -> Iterator[Path | None]:
    """The ledger as a kill left it, copied with its log, to look at it unchanged; None: not made yet."""
    with tempfile.TemporaryDirectory() as directory:
        for name in ("ledger.sqlite3", "ledger.sqlite3-wal"):
            if (state / name).exists():
                shutil.copyfile(state / name, Path(directory) / name)
        copy = Path(directory) / "ledger.sqlite3"
        yield copy if copy.exists() and copy.stat().st_size else None


def in_doubt(copy: Path | None) -> set[str]:
    """Digests that were between send and commit, by the ledger: claimed, and no answer on record."""
    if copy is None:
        return set()
    with closing(sqlite3.connect(copy)) as ledger:
        if ledger.execute("SELECT 1 FROM sqlite_master WHERE name = 'scan'").fetchone() is None:
            return set()
        found = ledger.execute("SELECT lower(hex(digest)) FROM scan WHERE state = 'submitting'")
        return {digest for (digest,) in found}


def check_submissions(creates: Counter[str], tree: Tree, doubtful: Counter[str]) -> int:
    """Each digest was submitted once, and once more at most for each kill that left it in doubt.

    Returns:
        How many submissions were made again.
    """
    promise(creates.keys() == tree.digests, "not what was to be submitted was submitted")
    again = creates - Counter(dict.fromkeys(creates, 1))
    unexplained = again - doubtful
    promise(not unexplained, f"submitted again without a doubt: {unexplained.most_common(3)}")
    return again.total()
