"""What is installed, built and committed."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

import batchscan

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCKS = sorted((ROOT / "configs").glob("*.lock"))
TOP_LEVEL = {
    "pyproject.toml",
    "README.md",
    "batchscan",
    "tests",
    "configs",
    "Dockerfile",
    "docs",
    "CHANGELOG.md",
    "LICENSE",
}

# Written in two parts, so that this file does not hold them itself.
HOSTS = [
    first + second
    for first, second in (
        ("pypi", ".org"),
        ("python", "hosted.org"),
        ("registry.", "npmjs"),
        ("npmjs", ".org"),
        ("deb.", "debian.org"),
        ("proxy.", "golang.org"),
    )
]
PLACES = [
    first + second for first, second in (("/wo", "rk/"), ("/ro", "ot/"), ("/tmp/", "w/"), ("/opt/", "pypi"))
]
FORBIDDEN = re.compile(
    "|".join(map(re.escape, HOSTS))
    + r"|(?<![\w.])(?:/home/(?!you\b)\w|"
    + "|".join(map(re.escape, PLACES))
    + ")",
    re.IGNORECASE,
)

# Imported, but the business of what is declared, which needs it in exactly one version.
WITHIN = {"pydantic_core": "pydantic"}


def name_of(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower().replace("_", "-")


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, timeout=20)
    return done.stdout.decode().split("\0")[:-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=50,
    )
    (path,) = out.iterdir()
    return zipfile.ZipFile(path)


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    info = f"batchscan-{batchscan.__version__}.dist-info/"
    assert [n for n in names if not n.startswith(("batchscan/", info))] == []
    assert {"batchscan/py.typed", f"{info}licenses/LICENSE"} <= set(names)
    schemas = [n for n in names if n.endswith(".schema.json")]
    assert sorted(schemas) == [
        "batchscan/decisions/decisions.schema.json",
        "batchscan/report/comparison.schema.json",
        "batchscan/report/notice.schema.json",
        "batchscan/report/result.schema.json",
        "batchscan/report/summary.schema.json",
    ]
    sources = {p.relative_to(ROOT).as_posix() for p in (ROOT / "batchscan").rglob("*.py")}
    assert sources == {n for n in names if n.endswith(".py")}
    pages = {
        p.relative_to(ROOT).as_posix() for p in (ROOT / "batchscan/pages").rglob("*.*") if p.suffix != ".pyc"
    }
    assert pages <= set(names)
    assert {".html", ".css", ".js"} <= {Path(page).suffix for page in pages}


def test_the_wheel_is_described(wheel: zipfile.ZipFile) -> None:
    info = f"batchscan-{batchscan.__version__}.dist-info/"
    metadata = wheel.read(info + "METADATA").decode()
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "\nRequires-Python: >=3.11\n" in metadata
    assert {"Provides-Extra: deep", "Provides-Extra: dev"} <= set(metadata.splitlines())
    assert "batchscan = batchscan.cli:main" in wheel.read(info + "entry_points.txt").decode()


def test_the_changelog_has_this_version() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(\d[^\]]*)\] - \d{4}-\d\d-\d\d$", changes, re.MULTILINE)
    assert versions[0] == batchscan.__version__


def test_the_top_level_holds_only_what_belongs_there(tracked: list[str]) -> None:
    tops = {name.partition("/")[0] for name in tracked}
    assert sorted(top for top in tops - TOP_LEVEL if not top.startswith(".")) == []


def test_no_file_names_a_registry_or_a_developers_machine(tracked: list[str]) -> None:
    found = []
    for name in tracked:
        path = ROOT / name
        if not path.is_file():
            continue  # deleted, but not yet in a commit
        text = path.read_bytes().decode("utf-8", "ignore")
        found += [f"{name}: {match[0]}" for match in FORBIDDEN.finditer(text)]
    assert found == []


def test_what_is_imported_is_declared_and_the_other_way_round() -> None:
    imported = set()
    for path in (ROOT / "batchscan").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
    imported.discard("_typeshed")  # only type checkers have it
    extras = {"skill_scanner", "pyarrow"}  # of deep and of parquet
    foreign = imported - sys.stdlib_module_names - {"batchscan"} - extras
    distributions = packages_distributions()
    foreign = {WITHIN.get(name, name) for name in foreign}
    needed = {distributions[name][0].lower().replace("_", "-") for name in foreign}
    needed.add("tzdata")  # read by zoneinfo, where the system has none
    assert needed == {name_of(requirement) for requirement in PROJECT["dependencies"]}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_locks_pin_and_hash_everything_and_name_no_index(lock: Path) -> None:
    requirements = re.sub(r" \\\n\s+", " ", lock.read_text(encoding="utf-8")).splitlines()
    assert requirements
    plain = re.compile(r"[a-z0-9.-]+==\S+( ; [^#]+?)?( --hash=sha256:[0-9a-f]{64})+")
    assert [line for line in requirements if not plain.fullmatch(line)] == []


@pytest.mark.parametrize(("lock", "extra"), [("", None), ("-dev", "dev"), ("-deep", "deep")])
def test_locks_hold_what_is_declared(lock: str, extra: str | None) -> None:
    text = (ROOT / "configs" / f"requirements{lock}.lock").read_text(encoding="utf-8")
    locked = set(re.findall(r"^([a-z0-9.-]+)==", text, re.MULTILINE))
    extras = [] if extra is None else PROJECT["optional-dependencies"][extra]
    assert {name_of(r) for r in (*PROJECT["dependencies"], *extras)} <= locked


def test_the_image_is_run_by_nobody_in_particular() -> None:
    last_stage = (ROOT / "Dockerfile").read_text(encoding="utf-8").split("\nFROM ")[-1]
    assert re.search(r"^USER [1-9]\d+:[1-9]\d+$", last_stage, re.MULTILINE)
    assert '\nENTRYPOINT ["batchscan"]\n' in last_stage
