"""No shell, no evaluated text, no unpickling, no guessable temporary file: read from the source itself."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "batchscan"

FORBIDDEN = {
    "eval": "evaluates text",
    "exec": "evaluates text",
    "compile": "evaluates text",
    "__import__": "imports what a text names",
    "os.system": "starts a shell",
    "os.popen": "starts a shell",
    "subprocess.getoutput": "starts a shell",
    "subprocess.getstatusoutput": "starts a shell",
    "asyncio.create_subprocess_shell": "starts a shell",
    "tempfile.mktemp": "is a name that another may take first",
    "yaml.load": "makes objects of a text",
    "yaml.unsafe_load": "makes objects of a text",
}
FORBIDDEN_METHODS = {
    "extractall": "writes what it is told to",
    "extract": "writes what it is told to",
    "create_subprocess_shell": "starts a shell",
}
FORBIDDEN_MODULES = {
    "pickle": "makes objects of a text",
    "marshal": "makes objects of a text",
    "shelve": "makes objects of a text",
    "dill": "makes objects of a text",
    "code": "evaluates text",
    "pty": "starts a shell",
    "xml": "expands entities",
}

ALLOWED_STARTS = {"embedded/analysis/pool.py"}
"""The one module that starts processes: the detection workers, by an argument list."""


def problems(source: str) -> Iterator[str]:
    """What is forbidden in a source, and where."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from wrong_imports(node)
        elif isinstance(node, ast.Call):
            yield from wrong_call(node)


def wrong_imports(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    names = [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        names = [node.module or "", *(f"{node.module}.{name}" for name in names)]
    for name in names:
        reason = FORBIDDEN_MODULES.get(name.partition(".")[0]) or FORBIDDEN.get(name)
        if reason is not None:
            yield f"line {node.lineno}: {name} {reason}"


def wrong_call(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    if name in FORBIDDEN:
        yield f"line {node.lineno}: {name} {FORBIDDEN[name]}"
    elif isinstance(node.func, ast.Attribute) and node.func.attr in FORBIDDEN_METHODS:
        yield f"line {node.lineno}: {name} {FORBIDDEN_METHODS[node.func.attr]}"
    for keyword in node.keywords:
        if keyword.arg == "shell" and not (
            isinstance(keyword.value, ast.Constant) and keyword.value.value is False
        ):
            yield f"line {node.lineno}: {name} starts a shell"


SOURCES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}


@pytest.mark.parametrize("name", SOURCES)
def test_the_source_does_nothing_of_the_kind(name: str) -> None:
    source = SOURCES[name].read_text(encoding="utf-8")
    assert list(problems(source)) == []
    starts = "create_subprocess" in source or "import subprocess" in source or "os.exec" in source
    if name != "embedded/analysis/worker.py":  # which forbids them, by their names
        assert starts == (name in ALLOWED_STARTS)


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')",
        "import pickle",
        "from xml.etree import ElementTree",
        "import subprocess\nsubprocess.run('ls', shell=True)",
        "from os import system",
        "import tempfile\ntempfile.mktemp()",
        "async def f(loop): await loop.create_subprocess_shell('ls')",
        "archive.extractall('/')",
    ],
)
def test_what_is_forbidden_is_seen(source: str) -> None:
    assert list(problems(source)) != []


@pytest.mark.parametrize("source", ["import re\nre.compile('x')", "run(shell=False)", "model.evaluate()"])
def test_what_only_sounds_like_it_is_not(source: str) -> None:
    assert list(problems(source)) == []
