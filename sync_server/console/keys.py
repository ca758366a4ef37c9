"""``sync-server key``: API keys for machines."""

from typing import Annotated

import typer

from sync_core.times import iso_from_ms
from sync_server.access.keyring import new_api_key
from sync_server.accounts.records import AddKey, ApiKeyRecord, RevokeKey, add_key, revoke_key
from sync_server.console.accounts import (
    Accounts,
    BoundOption,
    RolesOption,
    TenantOption,
    checked_access,
    made,
    tell_unreadable,
    wall_ms,
    with_accounts,
)
from sync_server.console.terminal import ConfigOption, die, err, out
from sync_server.sections import duration
from sync_server.settings import Settings
from sync_server.tenants import DEFAULT_TENANT

__all__ = ["key_app"]

key_app = typer.Typer(
    help="API keys for machines: new, list, revoke. A running server knows of a change within two seconds.",
    no_args_is_help=True,
)


@key_app.command("new")
def key_new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for, such as till-3.")],
    role: RolesOption = None,
    bound: BoundOption = None,
    tenant: TenantOption = DEFAULT_TENANT,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="TIME", help="After so long it is no longer good: 90d, 12h.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Make a key and print it. It is shown this once; the log keeps only its digest."""
    try:
        lifetime_s = None if expires is None else duration(expires).total_seconds()
    except ValueError as exc:
        die(f"--expires: {exc}")

    async def work(settings: Settings, accounts: Accounts) -> None:
        checked_access(settings, roles=role, tenant=tenant)
        key = new_api_key()
        given = made(
            AddKey, record=key.id, name=name, tenant=tenant, digest=key.digest, roles=role, bound=bound,
            expires_ms=None if lifetime_s is None else wall_ms() + int(lifetime_s * 1000),
        )  # fmt: skip
        await accounts.do(add_key, given)
        print(key.text)  # noqa: T201 - the key alone, for scripts
        err.print("Keep it: it is not shown again. Send it as Authorization: Bearer ...", markup=False)

    with_accounts(config, work)


@key_app.command("list")
def key_list(config: ConfigOption = None) -> None:
    """All keys: id, name, tenant, roles, what they are bound to, until when they are good."""

    async def work(_settings: Settings, accounts: Accounts) -> None:
        directory = await accounts.directory()
        tell_unreadable(directory, ApiKeyRecord)
        for key in directory.keys:
            until = "for ever" if key.expires_ms is None else f"until {iso_from_ms(key.expires_ms)}"
            if key.expires_ms is not None and key.expires_ms <= wall_ms():
                until = f"expired {iso_from_ms(key.expires_ms)}"
            access = " ".join((",".join(key.roles), *key.bound))
            out.print(f"{key.recordID} {key.name} ({key.tenant}) {access} {until}", markup=False)

    with_accounts(config, work)


@key_app.command("revoke")
def key_revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Of `key list`: what stands behind osk_ in the key.")],
    config: ConfigOption = None,
) -> None:
    """Revoke a key. Its streams end within five seconds."""

    async def work(_settings: Settings, accounts: Accounts) -> None:
        await accounts.do(revoke_key, made(RevokeKey, record=key_id))
        out.print(f"Revoked {key_id}.", markup=False)

    with_accounts(config, work)
