"""Every error mailglass raises, on one page.

Each message names the remedy and holds no address and no content, so that it may be logged as it is.
"""

from __future__ import annotations

import threading
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID


class MailglassError(Exception):
    """Base of all errors of mailglass.

    Attributes:
        retryable: whether the same call may succeed later without a change by the caller.
    """

    retryable: bool = False


class ConfigError(MailglassError):
    """A setting is unknown, missing, of the wrong type, or contradicts another.

    Attributes:
        key: the setting, as it is written in `mailglass.toml` or in the environment.
    """

    def __init__(self, key: str, problem: str, remedy: str) -> None:
        super().__init__(f"{key}: {problem}. {remedy}")
        self.key = key
        self.problem = problem
        self.remedy = remedy


class AccountUnavailableError(ConfigError):
    """The application's hook does not know an account, or cannot tell just now. Its mail waits.

    Attributes:
        missing: the hook answered that there is no such account.
    """

    retryable = True

    def __init__(self, account: str, problem: str, *, missing: bool = False) -> None:
        super().__init__(f"accounts.{account}", problem, "Correct the hook resolve_account, or what it reads")
        self.account = account
        self.missing = missing


class MessageError(MailglassError, ValueError):
    """A message, address or attachment cannot be accepted as it was built.

    >>> from mailglass import Message, MessageError
    >>> try:
    ...     Message(to="ada", subject="Receipt", text="Thank you.")
    ... except MessageError as error:
    ...     print(error.field)
    to

    Attributes:
        field: the field at fault, for example `to` or `headers`.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


class RouteError(MailglassError):
    """No route, or a wrong one, for a tenant and stream. Never replaced by a silent fallback."""


class TenantError(MailglassError):
    """No tenant is in scope, or it is not a usable name."""


class SuppressionType(StrEnum):
    """Scope of a suppression: the address, its whole domain, or the address on one stream."""

    ADDRESS = "address"
    DOMAIN = "domain"
    ADDRESS_STREAM = "address_stream"


class SuppressedError(MailglassError):
    """The recipient is on the suppression list; the delivery was recorded as `suppressed` and is never sent.

    Attributes:
        type: the scope of the suppression.
        delivery_id: the delivery that records the refusal.
    """

    def __init__(self, type: SuppressionType, delivery_id: UUID | None = None) -> None:
        super().__init__(
            f"the recipient is suppressed (type {type.value}); remove the entry from the suppression list to send again"
        )
        self.type = type
        self.delivery_id = delivery_id


class DeliveryError(MailglassError):
    """A delivery ended without being sent, or is held for a person. Holds the recorded reason, without content.

    Attributes:
        delivery_id: the delivery.
        status: its final status, or `held`.
        reason: the recorded reason, a closed code such as `http_422`.
    """

    def __init__(self, delivery_id: UUID, status: str, reason: str | None) -> None:
        super().__init__(f"delivery {delivery_id} is {status}: {reason or 'no reason recorded'}")
        self.delivery_id = delivery_id
        self.status = status
        self.reason = reason


class DeliveryNotFoundError(MailglassError, LookupError):
    """No delivery with this id is in the ledger of this tenant."""


class IdempotencyError(MailglassError):
    """Another message was already accepted under this idempotency key."""


class RateLimitType(StrEnum):
    """Kind of limit that was reached."""

    PER_TENANT = "per_tenant"
    PER_DOMAIN = "per_domain"
    PER_STREAM = "per_stream"
    PER_ACCOUNT = "per_account"


class RateLimitError(MailglassError):
    """A synchronous `deliver()` met a rate limit.

    Attributes:
        type: the kind of limit.
        retry_after: seconds until the next free slot.
    """

    retryable = True

    def __init__(self, type: RateLimitType, retry_after: float) -> None:
        super().__init__(f"rate limit reached ({type.value}); try again in {retry_after:.1f} s or use deliver_later")
        self.type = type
        self.retry_after = retry_after


class BatchFailureType(StrEnum):
    """Extent of a batch's failure."""

    PARTIAL_FAILURE = "partial_failure"
    ALL_FAILED = "all_failed"


class BatchFailedError(MailglassError):
    """Some or all items of a batch were not queued, or may not have been.

    Attributes:
        type: partial_failure or all_failed.
        results: the outcome of every item that was read, in input order.
        retryable: the database was lost in the middle of the batch: give each message an `idempotency_key`, and the
            same messages may be given again.
    """

    def __init__(self, type: BatchFailureType, results: Sequence[object], failed: int) -> None:
        super().__init__(f"{failed} of {len(results)} messages were not queued ({type.value}); see .results")
        self.type = type
        self.results = results

    @classmethod
    def interrupted(cls, results: Sequence[object], failed: int, retryable: bool) -> BatchFailedError:
        """Return the error of a batch that ended before all its messages were read."""
        error = cls(BatchFailureType.PARTIAL_FAILURE, results, failed)
        error.retryable = retryable
        error.args = (
            f"the batch ended after {len(results)} messages, the last {failed} of which may not be recorded; see "
            ".results: with an idempotency_key each, all of them may be given again"
            if retryable
            else f"the batch ended after {len(results)} messages, the last {failed} of which were refused together; "
            "see .results",
        )
        return error


class SignatureErrorType(StrEnum):
    """Reason of a failed verification."""

    MISSING_HEADER = "missing_header"
    MALFORMED_HEADER = "malformed_header"
    BAD_CREDENTIALS = "bad_credentials"
    IP_DISALLOWED = "ip_disallowed"
    BAD_SIGNATURE = "bad_signature"
    TIMESTAMP_SKEW = "timestamp_skew"
    MALFORMED_KEY = "malformed_key"
    REUSED_PROOF = "reused_proof"


class SignatureError(MailglassError):
    """A webhook request does not prove that the provider sent it.

    Attributes:
        type: what failed.
    """

    def __init__(self, type: SignatureErrorType, detail: str = "") -> None:
        super().__init__(f"webhook refused: {type.value}{': ' + detail if detail else ''}")
        self.type = type


class WebhookBodyError(MailglassError):
    """A verified webhook body cannot be understood. The body is kept as `dead` and can be replayed."""


class ProviderCallError(MailglassError):
    """A provider's management call failed, such as reading its suppression list. No mail is concerned.

    Args:
        call: the request and its account, without addresses: `acme-mailgun: list bounces`.

    Attributes:
        status: the HTTP status; None where there was no answer.
        retryable: whether the same call may succeed later.
        too_large: the answer was larger than mailglass reads.
    """

    def __init__(
        self, call: str, *, status: int | None = None, retryable: bool = False, too_large: bool = False
    ) -> None:
        answer = "no answer" if status is None else f"answered {status}"
        remedy = "try again later" if retryable else "check the account's credentials, permissions and options"
        if too_large:
            answer, remedy = "the answer is larger than mailglass reads", "clear entries at the provider"
        super().__init__(f"{call}: {answer}; {remedy}")
        self.status = status
        self.retryable = retryable
        self.too_large = too_large


class SchemaError(MailglassError):
    """The ledger's schema is missing, older or newer than this version of mailglass needs."""


class LedgerUnavailableError(MailglassError):
    """The database cannot be reached, or cannot work now. The caller still owns the message.

    If the connection breaks during a call, the message may have been recorded. With an `idempotency_key` you can safely
    repeat the call.
    """

    retryable = True


class LedgerError(MailglassError):
    """The database refused a statement, which wrote nothing.

    The error holds none of the database's own words, which may quote addresses and content.

    Attributes:
        sqlstate: PostgreSQL's error code; None where the driver refused a value before the database saw it.
        kind: the driver's name for the error.
    """

    def __init__(self, statement: str, sqlstate: str | None, kind: str) -> None:
        remedy = (
            "run `mailglass db upgrade`, and grant this user the schema mailglass"
            if sqlstate is not None and sqlstate.startswith("42")
            else "a value in it is not what the ledger keeps; the server's log tells which"
        )
        super().__init__(f"the database refused {statement} ({sqlstate or kind}): {remedy}")
        self.sqlstate = sqlstate
        self.kind = kind

    @property
    def of_a_value(self) -> bool:
        """True if a value is at fault: a data exception, a constraint, a limit, or a driver's refusal."""
        return self.sqlstate is None or self.sqlstate.startswith(("22", "23", "54"))


class SessionError(MailglassError):
    """A caller's `session=` leads to another database than the ledger's, which no worker reads.

    Args:
        database: the name of the session's database.
        ledger_there: whether it has a ledger of its own.
    """

    def __init__(self, database: str, *, ledger_there: bool) -> None:
        ledger = "which has another ledger" if ledger_there else "which has no ledger"
        super().__init__(
            f"session= is connected to the database {database}, {ledger} than MAILGLASS_DATABASE_URL names: "
            "give a session of that database, or leave session= out"
            if ledger_there
            else f"session= is connected to the database {database}, {ledger}: give a session of the database that "
            "MAILGLASS_DATABASE_URL names, or leave session= out"
        )


class TemplateErrorType(StrEnum):
    """Reason of a failed rendering; the delivery is held as `template_failed:<type>`."""

    UNDEFINED = "undefined"
    MISSING_FILE = "missing_file"
    SYNTAX = "syntax"
    RENDERING = "rendering"
    STYLESHEET = "stylesheet"
    REFUSED = "refused"
    NOT_INSTALLED = "not_installed"


class TemplateError(MailglassError):
    """A mailable could not be rendered. Names the mailable and the kind of failure, never the context.

    Attributes:
        type: undefined (the context lacks something), missing_file, syntax, rendering (any other failure in a
            template), stylesheet, refused (what came out cannot be a mail), or not_installed.
        retryable: this process does not have the mailable's class: another one, or a later one, may.
    """

    def __init__(self, message: str, type: TemplateErrorType = TemplateErrorType.RENDERING) -> None:
        super().__init__(message)
        self.type = type
        self.retryable = type is TemplateErrorType.NOT_INSTALLED


class StackError(MailglassError):
    """A local server or child process of `mailglass demo` or `mailglass dev` did not start."""


class OutboxError(MailglassError):
    """A test asked its outbox or mailbox for something that it cannot do, such as a real send."""


# libraries whose exceptions end a greenlet or a block of code from outside, though nothing in it has failed
_STOPPING: Final = frozenset({"greenlet", "gevent", "eventlet", "asyncio"})


def failure(error: BaseException) -> str:
    """Return the class name of an error by which code of somebody else has failed.

    Such code may raise more than an `Exception`: a script that is imported exits, and an extension written in Rust
    panics. That is a failure like any other. Only what asks this code to stop is raised again.

    Args:
        error: raised by a template, a hook, a provider's room or a library.

    Raises:
        BaseException: the error itself, if it asks to stop. A signal does so in the main thread (Ctrl-C, an exit), and
            a library that runs greenlets or coroutines by an error of its own.
    """
    if not isinstance(error, Exception):
        by_signal = isinstance(error, SystemExit | KeyboardInterrupt)
        if by_signal and threading.current_thread() is threading.main_thread():
            raise error
        if any(cls.__module__.partition(".")[0] in _STOPPING for cls in type(error).__mro__):
            raise error
    return type(error).__name__
