"""From a call of a command to its answer: permission, the log's transaction, what the caller may see of it."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import ValidationError

from sync_core.domain.command import Command, CommandInput, Domain, RuleConflict
from sync_core.domain.document import Document
from sync_core.problems import Unprocessable
from sync_server.access.caller import Caller
from sync_server.api.faults import faults_of
from sync_server.commands.answer import Answer
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

    def __init__(self, domain: Domain, appender: Appender, *, ids: Callable[[], str] = new_id) -> None:
        self.domain = domain
        self._appender = appender
        self._ids = ids

    async def __call__(self, caller: Caller, call: Call) -> Answer:
        """The answer, once it is durable; of documents only what *caller* may see. Raises Problem."""
        caller.rights.require(call.command.permission)
        write = CommandWrite(
            domain=self.domain,
            command=call.command,
            given=call.given,
            principal=caller.principal,
            client_id=call.client_id,
            new_id=self._ids,
            guard=call.guard,
            key=None if call.key is None else OutcomeKey(caller.principal, call.key),
            fingerprint=call.fingerprint,
            size_bytes=call.size_bytes,
        )
        answer = await self._appender.append(caller.tenant, write)
        return _visible(caller, answer)

    async def outcome(self, caller: Caller, key: str) -> Answer | None:
        """What became of the command with that key; None if nothing is known of it."""
        answer = await self._appender.append(caller.tenant, Lookup(self.domain, OutcomeKey(caller.principal, key)))
        return None if answer is None else _visible(caller, answer)


def checked(command: Command, body: bytes) -> CommandInput:
    """The input in the JSON *body*. Raises Unprocessable with every fault."""
    try:
        return command.input.model_validate_json(body, strict=True)
    except ValidationError as exc:
        raise Unprocessable("The command cannot be accepted.", errors=tuple(faults_of(exc))) from None


def _visible(caller: Caller, answer: Answer) -> Answer:
    def sees(document: Document) -> bool:
        return caller.rights.sees_document(type(document), document.grants(), document.audience())

    refusal = answer.refusal
    if isinstance(refusal, RuleConflict) and not all(sees(document) for document in refusal.documents):
        refusal = RuleConflict(refusal.detail, *filter(sees, refusal.documents))
    changed = tuple(item for item in answer.changed if sees(item.document))
    return Answer(answer.cursor, changed, refusal, answer.repeated)

