"""``sync-server user``: people who log in with a password."""

import sys
from typing import Annotated

import typer
from argon2 import PasswordHasher

from sync_server.access.passwords import MAX_PASSWORD, MIN_PASSWORD
from sync_server.accounts.records import (
    AddUser,
    DeleteUser,
    SetAccess,
    SetPassword,
    User,
    delete_user,
    set_access,
    set_password,
    user_id,
)
from sync_server.console.accounts import (
    Accounts,
    BoundOption,
    RolesOption,
    TenantOption,
    checked_access,
    made,
    tell_unreadable,
    with_accounts,
)
from sync_server.console.terminal import ConfigOption, die, out
from sync_server.settings import Settings
from sync_server.tenants import DEFAULT_TENANT

__all__ = ["user_app"]

user_app = typer.Typer(
    help="People who log in with a password: add, passwd, access, list, delete. A running server knows of a change "
    "within two seconds.",
    no_args_is_help=True,
)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The user name.")]


@user_app.command("add")
def user_add(
    name: NameArgument,
    role: RolesOption = None,
    bound: BoundOption = None,
    tenant: TenantOption = DEFAULT_TENANT,
    config: ConfigOption = None,
) -> None:
    """Add a user. The password is asked for, or read from standard input."""

    async def work(settings: Settings, accounts: Accounts) -> None:
        checked_access(settings, roles=role, tenant=tenant)
        given = made(AddUser, name=name, tenant=tenant, password="-", roles=role, bound=bound)  # noqa: S106 - to come
        await accounts.add_user(given.model_copy(update={"password": _hashed_password()}))
        out.print(f"Added {name}.", markup=False)

    with_accounts(config, work)


@user_app.command("passwd")
def user_passwd(name: NameArgument, tenant: TenantOption = DEFAULT_TENANT, config: ConfigOption = None) -> None:
    """Give a user another password, asked for or read from standard input. Older sessions end."""

    async def work(_settings: Settings, accounts: Accounts) -> None:
        given = made(SetPassword, record=user_id(tenant, name), password=_hashed_password())
        await accounts.do(set_password, given)
        out.print(f"Changed the password of {name}.", markup=False)

    with_accounts(config, work)


@user_app.command("access")
def user_access(
    name: NameArgument,
    role: RolesOption = None,
    bound: BoundOption = None,
    tenant: TenantOption = DEFAULT_TENANT,
    config: ConfigOption = None,
) -> None:
    """Give a user these roles, and no others. Older sessions end."""

    async def work(settings: Settings, accounts: Accounts) -> None:
        checked_access(settings, roles=role, tenant=tenant)
        await accounts.do(set_access, made(SetAccess, record=user_id(tenant, name), roles=role, bound=bound))
        out.print(f"Changed the roles of {name}.", markup=False)

    with_accounts(config, work)


@user_app.command("list")
def user_list(config: ConfigOption = None) -> None:
    """All users: name, tenant, roles, what they are bound to."""

    async def work(_settings: Settings, accounts: Accounts) -> None:
        directory = await accounts.directory()
        tell_unreadable(directory, User)
        for user in directory.users:
            out.print(f"{user.name} ({user.tenant}) {' '.join((','.join(user.roles), *user.bound))}", markup=False)

    with_accounts(config, work)


@user_app.command("delete")
def user_delete(name: NameArgument, tenant: TenantOption = DEFAULT_TENANT, config: ConfigOption = None) -> None:
    """Delete a user. The sessions end, and their streams within five seconds; order sessions are deleted."""

    async def work(_settings: Settings, accounts: Accounts) -> None:
        await accounts.do(delete_user, made(DeleteUser, record=user_id(tenant, name)))
        count = await accounts.delete_sessions(tenant=tenant, user=name)
        out.print(f"Deleted {name}{f' and {count} order sessions' if count else ''}.", markup=False)

    with_accounts(config, work)


def _hashed_password() -> str:
    """The password's hash. Never from the command line: every process of the machine can read that."""
    if sys.stdin.isatty():
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        die(f"A password has {MIN_PASSWORD} to {MAX_PASSWORD} characters; it was read from standard input.")
    return PasswordHasher().hash(password)
