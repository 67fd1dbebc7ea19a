"""Runs a program as a unit's filter would let it: ``python filtered.py UNIT PROGRAM ARGS...``.

systemd says which calls its groups are; libseccomp, which systemd itself uses, has the kernel refuse others.
"""

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

ALLOW, REFUSE_EPERM = 0x7FFF0000, 0x00050000 | 1
PR_SET_MDWE = 65


def groups() -> dict[str, set[str]]:
    done = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager"], capture_output=True, text=True, check=True
    )
    found: dict[str, set[str]] = {}
    for line in done.stdout.splitlines():
        if line.startswith("@"):
            members = found[line.strip()] = set()
        elif line.startswith("    ") and not line.lstrip().startswith("#"):
            members.add(line.strip())
    return found


def allowed(unit: str) -> set[str]:
    known = groups()

    def calls(name: str) -> set[str]:
        return set().union(*map(calls, known[name])) if name.startswith("@") else {name}

    result = calls("@default")
    for words in re.findall(r"^SystemCallFilter=(.*)$", unit, re.MULTILINE):
        named = set().union(*map(calls, words.removeprefix("~").split()))
        result = (result - named) | calls("@default") if words.startswith("~") else result | named
    return result


def restrict(unit: str) -> None:
    seccomp, libc = ctypes.CDLL("libseccomp.so.2"), ctypes.CDLL(None)
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(REFUSE_EPERM))
    for name in allowed(unit):
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number != -1:
            seccomp.seccomp_rule_add(context, ALLOW, ctypes.c_int(number), 0)
    assert seccomp.seccomp_load(context) == 0
    if "\nMemoryDenyWriteExecute=yes\n" in unit:
        libc.prctl(PR_SET_MDWE, 1, 0, 0, 0)  # kernels before 6.3 do not know it


if __name__ == "__main__":
    restrict(Path(sys.argv[1]).read_text(encoding="utf-8"))
    os.execv(sys.argv[2], sys.argv[2:])
