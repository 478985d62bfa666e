"""Attributes that Anymail gives to Django's messages: those that work here, and those that are refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from typing import Any, ClassVar, Final

from django.utils import timezone

from mailglass.errors import MessageError
from mailglass.routing import RouteContext
from mailglass.runtime import get_runtime

_A_MAILABLE: Final = "write the template as a Mailable, and send that by deliver_later or deliver_many"
_REFUSED: Final = {
    "template_id": f"names a template at a provider, which no other provider has: {_A_MAILABLE}",
    "merge_data": f"fills a provider's template: {_A_MAILABLE}",
    "merge_global_data": f"fills a provider's template: {_A_MAILABLE}",
    "envelope_sender": "is the provider's or the account's: set the return path there",
    "track_opens": 'is the account\'s, or the provider\'s own option: esp_extra={"postmark": {"TrackOpens": True}}',
    "track_clicks": 'is the account\'s, or the provider\'s own option: esp_extra={"postmark": {"TrackLinks": "None"}}',
}


@dataclass(frozen=True, slots=True)
class RecipientStatus:
    """Result of one recipient, by Anymail's names.

    Attributes:
        status: `queued`, or `rejected` for a suppressed recipient.
        message_id: the delivery's id, for `deliver_later.AsyncResult`.
    """

    status: str
    message_id: str


@dataclass(frozen=True, slots=True)
class SendStatus:
    """The attribute `anymail_status` of a message, once the delivery is recorded.

    Attributes:
        recipients: the result of each recipient that has a delivery, by address.
        esp_response: None, because no provider has been asked yet.
    """

    recipients: Mapping[str, RecipientStatus] = field(default_factory=dict)
    esp_response: ClassVar[None] = None

    @property
    def status(self) -> set[str] | None:
        """The statuses of all recipients; None until the delivery is recorded."""
        return {found.status for found in self.recipients.values()} or None

    @property
    def message_id(self) -> str | set[str] | None:
        """The delivery's id, or the set of several."""
        ids = {found.message_id for found in self.recipients.values()}
        return next(iter(ids), None) if len(ids) < 2 else ids


def given(message: Any, name: str) -> Any:
    """Return an attribute, or None where it is not set; Anymail marks that by a class of its own."""
    value = getattr(message, name, None)
    return None if isinstance(value, type) else value


def refuse_unsupported(message: Any) -> None:
    """Refuse attributes that nothing here can honour.

    Raises:
        MessageError: names the attribute and the remedy.
    """
    for name, remedy in _REFUSED.items():
        value = given(message, name)
        if value is not None and value != {} and value != "":
            raise MessageError(name, remedy)


def metadata_of(value: Any) -> Any:
    """Return metadata with its numbers as strings; anything else is for `Message` to judge."""
    if not isinstance(value, Mapping):
        return value
    return {key: str(item) if isinstance(item, int | float) else item for key, item in value.items()}


def moment_of(value: Any) -> datetime | None:
    """Return the moment of `send_at`: a datetime or date, in Django's time zone where it has none, or a timestamp.

    Raises:
        MessageError: it is none of these.
    """
    if value is None:
        return None
    if isinstance(value, datetime):
        moment = value
    elif isinstance(value, date):
        moment = datetime.combine(value, time.min)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        try:
            moment = datetime.fromtimestamp(value, UTC)
        except (ValueError, OverflowError, OSError):
            raise MessageError("send_at", "is no timestamp: give seconds since 1970") from None
    else:
        raise MessageError("send_at", "must be a datetime, a date or a timestamp")
    if timezone.is_naive(moment):
        moment = timezone.make_aware(moment)
    return moment


def provider_options_of(extra: Any, tenant: str, stream: str) -> Any:
    """Return `esp_extra` as options by provider.

    Args:
        extra: options of the one provider of the route, or a mapping of provider names to options.
        tenant: selects the route.
        stream: selects the route.

    Raises:
        MessageError: the route has accounts of several providers, so it must say whose options these are.
    """
    if not extra:
        return None
    runtime = get_runtime()
    route = runtime.router.resolve(RouteContext(tenant, stream))
    accounts = runtime.settings.accounts
    # of accounts that the application keeps, as far as they are known without waiting
    providers = {name for account in route.accounts if (name := runtime.accounts.provider_name(account))}
    named = {account.provider for account in accounts.values()}
    if isinstance(extra, Mapping) and all(name in named and isinstance(extra[name], Mapping) for name in extra):
        return extra
    if len(providers) == 1:
        return {next(iter(providers)): extra}
    options = ", ".join(f'"{name}": {{...}}' for name in sorted(providers))
    raise MessageError("esp_extra", f"may go to several providers: write {{{options}}}")


def strings(value: Any, field_name: str) -> Sequence[Any]:
    """Return a list such as `tags`, which may be any sequence but a str.

    Raises:
        MessageError: it is a str, or not a sequence.
    """
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence | set | frozenset):
        raise MessageError(field_name, "must be a list of str")
    return sorted(value, key=str) if isinstance(value, set | frozenset) else list(value)
