"""Short fuzzing of every reader of untrusted input, in the suite; ``run.py`` does it for hours."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import text_targets
import zip_targets
from hypothesis import HealthCheck, given, settings
from targets import READERS

sys.path.insert(0, str(Path(__file__).parents[1]))
import hostile_zips

RUN = Path(__file__).parent / "run.py"
SEEDS = {name: sorted(reader.seeds()) for name, reader in READERS.items()}
QUICK = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))

wounds = st.tuples(
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 8),
    st.binary(max_size=8) | st.just(b"PK\5\6" + b"\xff" * 8),
)
"""Where, how many bytes are lost there, and what takes their place."""


def mutated(name: str) -> st.SearchStrategy[bytes]:
    """Seeds of a reader with some wounds, and any bytes at all."""

    def wounded(seed: bytes, found: list[tuple[float, int, bytes]], kept: float) -> bytes:
        content = bytearray(seed)
        for place, lost, put in found:
            at = int(place * len(content))
            content[at : at + lost] = put
        return bytes(content[: round(kept * len(content))])

    seeded = st.builds(
        wounded, st.sampled_from(SEEDS[name]), st.lists(wounds, max_size=8), st.floats(0.3, 1) | st.just(1.0)
    )
    return seeded | st.binary(max_size=200)


@pytest.mark.parametrize("name", READERS)
def test_the_seeds_are_read(name: str) -> None:
    for seed in SEEDS[name]:
        READERS[name].feed(seed)


@pytest.mark.parametrize("name", READERS)
def test_damaged_input_is_read(name: str) -> None:
    @QUICK
    @given(mutated(name))
    def feed(content: bytes) -> None:
        READERS[name].feed(content)

    feed()


entries = st.builds(
    hostile_zips.Entry,
    name=st.sampled_from([b"SKILL.md", b"", b"a/", b"../x", b"a\0/b", b"A", b"a", b"a/b", b"\xff", b"C:x"])
    | st.text(max_size=6).map(lambda text: text.encode(errors="replace")),
    content=st.binary(max_size=40) | st.just(b"\xcbH\xcd\xc9\xc9\7\0"),
    method=st.sampled_from([0, 8, 12]),
    flags=st.sampled_from([0, 1, 8, 0x800]),
    size=st.none() | st.integers(0, 0xFFFFFFFF),
    packed=st.none() | st.integers(0, 100),
    mode=st.sampled_from([0o100644, 0o120777, 0o040755, 0o010644]),
    offset=st.none() | st.integers(0, 200),
)


@QUICK
@given(st.builds(hostile_zips.build, st.lists(entries, max_size=6), wide=st.booleans()))
def test_zips_of_any_entries_are_read(content: bytes) -> None:
    zip_targets.inspect(content)
    zip_targets.unpack(content)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@QUICK
@given(st.dictionaries(st.sampled_from(sorted(text_targets.FINISHED)), json_values), st.integers(0, 2))
def test_answers_with_any_fields_are_read(changes: dict[str, Any], action: int) -> None:
    text_targets.replies(
        text_targets.answer(1, {"Status": "SUCCESS", "Data": text_targets.FINISHED | changes})
    )
    text_targets.replies(text_targets.answer(action, text_targets.CREATE_BODY | changes))


KEYS = ("type", "secretId", "secretKey", "token", "expiresAt", "role-arn", "role-session-name")
PARTS = ("TmpSecretId", "TmpSecretKey", "Token", "ExpiredTime", "Expiration")
likely = st.sampled_from(["default", "cvm-role", "", text_targets.SECRET, "1780000000", 1780000000])


@QUICK
@given(
    st.dictionaries(st.sampled_from(KEYS), likely | json_values),
    st.dictionaries(st.sampled_from(PARTS), likely | json_values),
)
def test_keys_of_any_kind_are_read(profile: dict[str, Any], reply: dict[str, Any]) -> None:
    text_targets.credentials(b"\1" + json.dumps(profile).encode())
    text_targets.credentials(b"\2" + json.dumps(reply).encode())


@QUICK
@given(st.lists(json_values | st.fixed_dictionaries({"path": st.text()}, optional={"id": json_values})))
def test_lists_of_any_json_are_read(lines: list[Any]) -> None:
    text_targets.manifests(b"\2" + "".join(json.dumps(line) + "\n" for line in lines).encode())


# What fuzzing found, so that it stays found.


def test_a_type_that_is_no_text_is_no_reason_to_fail() -> None:
    text_targets.credentials(b'\1{"type": []}')
    text_targets.credentials(b'\1{"type": [1]}')


def test_a_key_in_the_place_of_a_type_is_not_shown() -> None:
    text_targets.credentials(b"\1" + json.dumps({"type": text_targets.SECRET}).encode())


def test_a_zip64_record_that_only_its_locator_knows_hides_nothing_from_inspection() -> None:
    zip_targets.inspect(hostile_zips.zip64_elsewhere())


def test_an_entry_without_a_name_is_no_reason_to_give_up() -> None:
    zip_targets.unpack(hostile_zips.empty_name())


def test_a_header_of_control_characters_is_no_drill() -> None:
    text_targets.drills(b"Create:content-type=text/html\r\nX-Forged: yes")


def test_nobodys_home_is_refused_in_words() -> None:
    text_targets.settings(text_targets.setting("state_dir", "~nobody-at-all/x"))
    text_targets.settings(text_targets.setting("ca_file", "~nobody-at-all/x"))
    text_targets.settings(bytes([text_targets.FILE]) + b'state_dir = "~nobody-at-all/x"')
    text_targets.settings(bytes([text_targets.FILE]) + b'ca_file = "a\\u0000b"')


@pytest.mark.timeout(20)
def test_a_path_that_no_file_can_have_costs_no_matching() -> None:
    """Took a minute for each such line: the patterns were tried at each of its half a million slashes."""
    text_targets.manifests(b"\0" + b"a/" * ((1 << 19) - 1) + b"\n")


# The program for hours of it.


def run(*args: str, **changes: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(RUN), *args], capture_output=True, text=True, check=False, timeout=50, **changes
    )


def test_the_largest_bombs_are_read_within_limits(tmp_path: Path) -> None:
    for name in ("real_bomb", "huge_bomb", "many", "overlapping_bomb", "nested_bomb", "quine", "long_name"):
        (tmp_path / name).write_bytes(hostile_zips.CORPUS[name]())
    files = sorted(map(str, tmp_path.iterdir()))
    for reader in ("archive", "unpack"):
        done = run(reader, *files, "--memory-mib", "128", "--input-seconds", "10")
        assert (done.returncode, done.stdout) == (0, f"{reader}: 7 inputs read\n"), done.stderr


def test_limits_are_kept() -> None:
    done = run("archive", "--memory-mib", "1")
    assert done.returncode != 0
    assert "MemoryError" in done.stderr


def test_fuzzing_without_atheris_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "atheris.py").write_text("raise ImportError")
    done = run("drill", "--seconds", "1", env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert "pip install atheris" in done.stderr
    assert run("nothing").returncode == 1
