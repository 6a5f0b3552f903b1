"""`ngos token`: tokens for development, and a look into any. Floor of `ngos.operate`.

Server code is imported when one of them is called, so that the clients' commands work without it.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource

from ngos.auth.grants import Family, parse_grant
from ngos.auth.tokens import TOKEN_CHARS, decoded, is_subject, read_object
from ngos.errors import SetupError
from ngos.operate import missing_server

SECRET_BYTES: Final = 48
LONGEST_S: Final = 10 * 365 * 24 * 60 * 60


@click.group("token")
def token_group() -> None:
    """Make and look at tokens, for development. In production an identity provider makes them."""


@token_group.command()
@click.argument("subject")
@click.option("--read", is_flag=True, help="May give commands that read.")
@click.option("--write", is_flag=True, help="May give commands that change something.")
@click.option("--admin", is_flag=True, help="May give the commands of administrators.")
@click.option("--subscribe", multiple=True, metavar="PATTERN", help="May follow these topics; * and ? as in chat.*")
@click.option("--publish", multiple=True, metavar="PATTERN", help="May publish to these topics; likewise.")
@click.option(
    "--lifetime-s",
    type=click.IntRange(1, LONGEST_S),
    default=3600,
    metavar="SECONDS",
    help="For how long it is good. [default: 3600]",
)
@click.option(
    "--secret-file",
    type=click.Path(path_type=Path),
    envvar="NGOS_AUTH_SECRET_FILE",
    help="The server's secret. [env: NGOS_AUTH_SECRET_FILE]",
)
@click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    help="A private key in PEM instead; the server has the public one.",
)
@click.option("--kid", help="The key's name, where the server knows several.")
@click.option("--issuer", envvar="NGOS_AUTH_ISSUER", help="As the server's. [env: NGOS_AUTH_ISSUER]")
@click.option("--audience", envvar="NGOS_AUTH_AUDIENCE", help="As the server's. [env: NGOS_AUTH_AUDIENCE]")
@click.option(
    "--claim", default="ngos", envvar="NGOS_AUTH_CLAIM", help="As the server's. [default: ngos; env: NGOS_AUTH_CLAIM]"
)
def issue(
    subject: str,
    read: bool,
    write: bool,
    admin: bool,
    subscribe: tuple[str, ...],
    publish: tuple[str, ...],
    lifetime_s: int,
    secret_file: Path | None,
    key_file: Path | None,
    kid: str | None,
    issuer: str | None,
    audience: str | None,
    claim: str,
) -> None:
    """Make a token for SUBJECT and print it, alone. What no option allows, it does not. For development.

    Who has it is SUBJECT until it ends: it can't be taken back.

    Example: ngos token issue alice --read --write --subscribe tokens --subscribe 'chat.*' --secret-file secret
    """
    families = ((Family.READ, read), (Family.WRITE, write), (Family.ADMIN, admin))
    commands = [family.value for family, given in families if given]
    try:
        grant = parse_grant({"commands": commands, "subscribe": list(subscribe), "publish": list(publish)})
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    if not is_subject(subject):
        raise click.UsageError("a subject has 1 to 255 characters, none of them a control character")
    if key_file is not None and secret_file is not None and _was_typed("secret_file"):
        raise click.UsageError("--secret-file and --key-file exclude each other")
    try:
        from ngos.auth import issue as issuing
        from ngos.auth import keys
    except ImportError as exc:
        raise missing_server(exc, "token issue") from exc

    if key_file is not None:
        key = keys.read_private_key(key_file)
    elif secret_file is None:
        raise click.UsageError("name the server's secret by --secret-file, or a private key by --key-file")
    elif not secret_file.exists():
        raise SetupError(f"{secret_file}: no such file; `ngos token secret {secret_file}` makes one")
    else:
        key = keys.read_secret(secret_file, "--secret-file" if _was_typed("secret_file") else keys.SECRET_FILE)
    algorithm = keys.algorithm_of(key)
    click.echo(issuing.issue(key, algorithm, subject, grant, lifetime_s, time.time(), issuer, audience, claim, kid))


@token_group.command()
@click.argument("file", type=click.Path(path_type=Path))
def secret(file: Path) -> None:
    """Make a secret, 48 random bytes in base64url, in a new FILE that only you can read. For development.

    Who has it can make any token.

    Example: ngos token secret ngos.secret && NGOS_AUTH_SECRET_FILE=ngos.secret ngos serve
    """
    text = secrets.token_urlsafe(SECRET_BYTES) + "\n"
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise SetupError(f"{file}: is there already, and is left as it is") from None
    except OSError as exc:
        raise SetupError(f"{file}: {exc.strerror or exc}") from exc
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)


@token_group.command()
@click.argument("token", required=False)
def show(token: str | None) -> None:
    """Print the header and the claims of TOKEN, or of one from standard input, WITHOUT verifying it. For development.

    A token in an argument can be seen by other users of this machine, in its list of processes.

    Example: ngos token issue alice --secret-file secret | ngos token show
    """
    text = (sys.stdin.read(2 * TOKEN_CHARS) if token is None else token).strip()
    segments = text.split(".")
    try:
        if len(segments) != 3:
            raise ValueError("a token has three parts")
        parts = {"header": read_object(decoded(segments[0])), "claims": read_object(decoded(segments[1]))}
    except (ValueError, RecursionError):
        raise click.ClickException("this is not a token that the server would look at: not a JWT, signed") from None
    click.echo("not verified: anybody can have written this", err=True)
    click.echo(json.dumps(parts, indent=2))


def _was_typed(name: str) -> bool:
    source: Any = click.get_current_context().get_parameter_source(name)
    return bool(source is ParameterSource.COMMANDLINE)
