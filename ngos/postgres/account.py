"""Whom the embedded Postgres runs as. It refuses root, so for root there is a user of its own. Blocking calls.

Promises: as root, that user exists afterwards and may enter the directories it needs, and nobody else may more
than before: it is let in by an ACL entry for this one user, not by opening a home directory to everybody.

Imports ngos.errors.
"""

from __future__ import annotations

import os
import shutil
import stat
import struct
import subprocess
import sys
import time
from pathlib import Path

import attrs

from ngos.errors import SetupError

USER_NAME = "ngos-postgres"

# The Linux ACL of a file, as setxattr takes it: a version, then (tag, permissions, uid or gid) in order of tags.
_ACL = "system.posix_acl_access"
_ACL_VERSION = 2
_OWNER, _USER, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_NO_ID = 0xFFFFFFFF
_ENTER = 0o1


@attrs.frozen
class Account:
    """A system user."""

    name: str
    uid: int
    gid: int


def postgres_account() -> Account | None:
    """The user to run Postgres as: None for the one we are; for root a user of its own, made if need be.

    SetupError if it can't be made.
    """
    if os.geteuid() != 0:
        return None
    import pwd  # noqa: PLC0415 - not on Windows

    complaint = ""
    for attempt in range(10):
        try:
            entry = pwd.getpwnam(USER_NAME)
        except KeyError:
            # Twice at once, and the second finds the password file locked, or the user there: look again.
            if attempt:
                time.sleep(0.1)
            complaint = _make_user()
        else:
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise SetupError(
        f"the embedded Postgres can't run as root, and its user {USER_NAME} can't be made ({complaint}): "
        "run ngos as another user, or set NGOS_DATABASE_URL"
    )


def _make_user() -> str:
    """Make the user; return what went wrong, which only matters if the user is still not there."""
    if shutil.which("useradd"):
        command = ["useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent"]
        command += ["--shell", "/usr/sbin/nologin", "--user-group", USER_NAME]
    elif shutil.which("adduser"):  # busybox
        command = ["adduser", "-S", "-D", "-H", USER_NAME]
    else:
        return "there is no useradd"
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return " ".join(done.stderr.split())


def let_in(account: Account, directory: Path) -> None:
    """Let `account` enter `directory` and all that it is in. SetupError if the file system has no ACLs."""
    for ancestor in (directory, *directory.parents):
        status = ancestor.stat()
        if status.st_mode & stat.S_IXOTH or (status.st_uid == account.uid and status.st_mode & stat.S_IXUSR):
            continue
        try:
            _add_acl_entry(ancestor, account.uid, status.st_mode)
        except OSError as error:
            raise SetupError(
                f"the embedded Postgres can't run as root but as the user {account.name}, who may not enter "
                f"{ancestor} ({error.strerror}): chmod o+x {ancestor}, or set NGOS_DATA_DIR to another directory"
            ) from error


def _add_acl_entry(path: Path, uid: int, mode: int) -> None:
    if sys.platform != "linux":
        raise OSError(0, "no ACLs here")
    try:
        entries = list(struct.iter_unpack("<HHI", os.getxattr(path, _ACL)[4:]))
    except OSError:
        bits = stat.S_IMODE(mode)
        entries = [
            (_OWNER, bits >> 6 & 7, _NO_ID),
            (_GROUP, bits >> 3 & 7, _NO_ID),
            (_MASK, bits >> 3 & 7, _NO_ID),
            (_OTHER, bits & 7, _NO_ID),
        ]
    # The mask limits every entry but the owner's and the others'.
    entries = [(tag, bits | _ENTER if tag == _MASK else bits, who) for tag, bits, who in entries]
    entries = [entry for entry in entries if (entry[0], entry[2]) != (_USER, uid)]
    entries.append((_USER, _ENTER, uid))
    entries.sort(key=lambda entry: (entry[0], entry[2]))
    packed = b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(path, _ACL, struct.pack("<I", _ACL_VERSION) + packed)
