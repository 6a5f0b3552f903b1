"""Runs a program as the unit file would: its system calls filtered, no memory both written and executed.

`python -m tests.confined UNIT PROGRAM ARGUMENT...`; what systemd does beside that (users, mounts) is not done.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import os
import re
import subprocess
import sys
from pathlib import Path

PR_SET_NO_NEW_PRIVS, PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 38, 65, 1
SCMP_ACT_ALLOW = 0x7FFF0000
SCMP_ACT_ERRNO = 0x00050000


def groups() -> dict[str, list[str]]:
    """The sets of system calls that systemd has names for."""
    printed = subprocess.run(["systemd-analyze", "syscall-filter"], capture_output=True, text=True, check=True).stdout
    found: dict[str, list[str]] = {}
    for line in printed.splitlines():
        if line.startswith("@"):
            found[line.strip()] = members = []
        elif (name := line.strip()) and not name.startswith("#") and line.startswith("    "):
            members.append(name)
    return found


def calls(name: str, of: dict[str, list[str]]) -> set[str]:
    """The system calls of a set, or the one of that name."""
    return set().union(*(calls(member, of) for member in of[name])) if name.startswith("@") else {name}


def allowed(unit: str) -> set[str]:
    """What `SystemCallFilter=` lets by."""
    of = groups()
    found = calls("@default", of)
    for takes, names in re.findall(r"^SystemCallFilter=(~?)(.*)$", Path(unit).read_text(), re.MULTILINE):
        named = set().union(*(calls(name, of) for name in names.split()))
        found = found - named if takes else found | named
    return found


def confine(unit: str) -> None:
    """Have this process, and what it becomes, keep to the unit's filter."""
    libc = ctypes.CDLL(None, use_errno=True)
    seccomp = ctypes.CDLL(ctypes.util.find_library("seccomp"))
    seccomp.seccomp_init.restype = ctypes.c_void_p
    seccomp.seccomp_init.argtypes = [ctypes.c_uint32]
    seccomp.seccomp_rule_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint]
    seccomp.seccomp_load.argtypes = [ctypes.c_void_p]
    names = allowed(unit)
    context = seccomp.seccomp_init(SCMP_ACT_ERRNO | errno.EPERM)
    for name in names:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            assert seccomp.seccomp_rule_add(context, SCMP_ACT_ALLOW, number, 0) == 0
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)  # where the kernel is new enough
    assert seccomp.seccomp_load(context) == 0


if __name__ == "__main__":
    confine(sys.argv[1])
    os.execv(sys.argv[2], sys.argv[2:])
