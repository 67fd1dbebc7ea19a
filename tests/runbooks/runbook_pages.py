"""Runbook pages read: what is to be typed, what it is said to show, and whether that is what came.

A page's ``sh`` blocks are typed in order, each with the ``text`` block that follows it as what must come;
without one, nothing may come. ``console`` blocks need real infrastructure and are not typed.

What is shown must come line by line, but for: ``...`` alone stands for any lines, ``...`` within a line for
any text, ``<name>`` for a text without blanks, the same one wherever the page uses the name again. Columns
may be wider or narrower: two blanks or more, or a tab, are as good as any two.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUNBOOKS = ROOT / "docs" / "runbooks"
INDEX = "README"
SECTIONS = ["Meaning", "Impact", "Look", "Do", "Over"]

_FENCE = re.compile(r"```(\S*)")
_HEADING = re.compile(r"##+ (.+)")
_PLACEHOLDER = re.compile(r"\.\.\.|<([a-z]+)>")


@dataclass(frozen=True)
class Block:
    """One thing to type."""

    line: int
    section: str
    command: str
    shown: str


@dataclass
class Page:
    """One runbook."""

    name: str
    text: str
    blocks: list[Block] = field(default_factory=list)
    unrun: list[str] = field(default_factory=list)

    @property
    def headings(self) -> list[str]:
        """The headings of the second level."""
        return re.findall(r"^## (.+)$", self.text, re.MULTILINE)


def page_names() -> list[str]:
    """All pages but the index."""
    return sorted(path.stem for path in RUNBOOKS.glob("*.md") if path.stem != INDEX)


def read_page(name: str) -> Page:
    """Read one page of the directory."""
    return parse(name, (RUNBOOKS / f"{name}.md").read_text(encoding="utf-8"))


def parse(name: str, text: str) -> Page:
    """Find what is to be typed; a fence that the rules do not know is an error."""
    page = Page(name, text)
    section, language, lines, start = "", None, list[str](), 0
    last: str | None = None
    for number, line in enumerate(text.splitlines(), 1):
        fence = _FENCE.fullmatch(line)
        if language is not None and line == "```":
            _take(page, language, "\n".join(lines), Block(start, section, "", ""), last)
            last, language, lines = language, None, []
        elif language is not None:
            lines.append(line)
        elif fence:
            language, start = fence[1], number
        elif line.strip():
            heading = _HEADING.fullmatch(line)
            section = heading[1] if heading else section
            last = None
    assert language is None, f"{name}: a block without an end"
    return page


def _take(page: Page, language: str, body: str, place: Block, last: str | None) -> None:
    if language == "sh":
        page.blocks.append(Block(place.line, place.section, body, ""))
    elif language == "text":
        assert last == "sh", f"{page.name}:{place.line}: a text block must follow what shows it"
        typed = page.blocks.pop()
        page.blocks.append(Block(typed.line, typed.section, typed.command, body))
    else:
        assert language == "console", f"{page.name}:{place.line}: a block of {language!r}"
        page.unrun.append(body)


def mismatch(shown: str, came: str, names: dict[str, str]) -> str | None:
    """Say where what came is not what is shown, or None; ``names`` learns what each stands for."""
    expected, lines = shown.splitlines(), came.splitlines()
    reached = _follow(expected, lines, dict(names))
    if reached.names is not None:
        names.update(reached.names)
        return None
    wanted = expected[reached.expected] if reached.expected < len(expected) else "nothing more"
    got = lines[reached.came] if reached.came < len(lines) else "nothing more"
    return f"line {reached.expected + 1} of what is shown:\n  shown: {wanted}\n  came:  {got}"


@dataclass(frozen=True)
class _Reached:
    """How far two texts go together; ``names`` where that is to the end of both."""

    expected: int
    came: int
    names: dict[str, str] | None = None


def _follow(
    expected: list[str], came: list[str], names: dict[str, str], at: int = 0, to: int = 0
) -> _Reached:
    while at < len(expected):
        if expected[at].strip() == "...":
            furthest = _Reached(at, to)
            for start in range(to, len(came) + 1):
                reached = _follow(expected, came, dict(names), at + 1, start)
                if reached.names is not None:
                    return reached
                furthest = max(furthest, reached, key=lambda one: one.expected)
            return furthest
        found = None if to == len(came) else _line_pattern(expected[at], names).fullmatch(_columns(came[to]))
        if found is None:
            return _Reached(at, to)
        names |= found.groupdict()
        at, to = at + 1, to + 1
    return _Reached(at, to, names if to == len(came) else None)


def _columns(line: str) -> str:
    return re.sub(r" {2,}|\t", "  ", line.rstrip())


def _line_pattern(line: str, names: dict[str, str]) -> re.Pattern[str]:
    pattern, at, here = "", 0, set[str]()
    line = _columns(line)
    for found in _PLACEHOLDER.finditer(line):
        pattern += re.escape(line[at : found.start()])
        name, at = found[1], found.end()
        if name is None:
            pattern += ".+"
        elif name in names:
            pattern += re.escape(names[name])
        else:
            pattern += f"(?P={name})" if name in here else rf"(?P<{name}>\S+)"
            here.add(name)
    return re.compile(pattern + re.escape(line[at:]))
