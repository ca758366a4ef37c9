"""From a call of a command to its answer: permission, the log's transaction, what the caller may see of it."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from sync_core.domain.command import Command, CommandInput, Domain
from sync_core.faults import faults_of
from sync_core.problems import Unprocessable
from sync_server.access.caller import Caller
from sync_server.commands.answer import Answer, Carried
from sync_server.commands.write import CommandWrite, Guard, Lookup
from sync_server.log.appender import Appender
from sync_server.log.records import OutcomeKey

__all__ = ["Call", "Dispatch", "checked", "new_id"]

_ID_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"


def new_id() -> str:
    """An id that can be read out loud: 12 characters, about 59 bits, none of them alike."""
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(12))


@dataclass(frozen=True, slots=True)
class Call:
    """A command as somebody asks for it. *key* makes it take effect once; *fingerprint* tells requests apart."""

    command: Command
    given: CommandInput
    client_id: str | None = None
    guard: Guard | None = None
    key: str | None = None
    fingerprint: str = ""
    size_bytes: int = 1024


class Dispatch:
    """Gives commands to the appender; what HTTP, WebSocket and sweeps share."""

    def __init__(
        self,
        domain: Domain,
        appender: Appender,
        *,
        ids: Callable[[], str] = new_id,
        defaults: Mapping[type[CommandInput], Mapping[str, Any]] = MappingProxyType({}),
    ) -> None:
        """*defaults* are what the configuration gives for fields of an input that the caller has left at None."""
        self.domain = domain
        self._defaults = defaults
        self._appender = appender
        self._ids = ids

    async def __call__(self, caller: Caller, call: Call) -> Answer:
        """The answer, once it is durable; of documents only what *caller* may see. Raises Problem."""
        caller.rights.require(call.command.permission)
        write = CommandWrite(
            domain=self.domain,
            command=call.command,
            given=self._complete(call),
            principal=caller.principal,
            rights=caller.rights,
            client_id=call.client_id,
            guard=call.guard,
            key=None if call.key is None else OutcomeKey(caller.principal, call.key),
            fingerprint=call.fingerprint,
            size_bytes=call.size_bytes,
        )
        answer = await self._appender.append(caller.tenant, write)
        return answer.seen_by(self._sees(caller))

    def _complete(self, call: Call) -> CommandInput:
        """The call's input with the ids and the defaults that were left open."""
        given = call.command.complete(call.given, self._ids)
        defaults = self._defaults.get(type(given), {})
        missing = {name: value for name, value in defaults.items() if getattr(given, name) is None}
        return given.model_copy(update=missing) if missing else given

    async def outcome(self, caller: Caller, key: str) -> Answer | None:
        """What became of the command with that key; None if nothing is known of it."""
        answer = await self._appender.append(caller.tenant, Lookup(OutcomeKey(caller.principal, key)))
        return None if answer is None else answer.seen_by(self._sees(caller))

    def _sees(self, caller: Caller) -> Callable[[Carried], bool]:
        kinds, rights = self.domain.kinds, caller.rights
        return lambda item: rights.sees_document(kinds[item.kind], item.grants, item.audience)


def checked(command: Command, body: bytes) -> CommandInput:
    """The input in the JSON *body*. Raises Unprocessable with every fault."""
    try:
        return command.input.model_validate_json(body, strict=True)
    except ValidationError as exc:
        raise Unprocessable("The command cannot be accepted.", errors=tuple(faults_of(exc))) from None
