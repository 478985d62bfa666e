"""Django's `send_mail` through mailglass: each thing that callers do works as the guide's table says, or is refused."""

from __future__ import annotations

import base64
import email.message
from datetime import UTC, date, datetime, timedelta, timezone
from email.mime.base import MIMEBase
from email.mime.image import MIMEImage
from email.mime.multipart import MIMEMultipart
from typing import Any

import psycopg
import pytest
from django.core import mail
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.utils.functional import lazystr
from psycopg.rows import namedtuple_row

from mailglass import MessageError, SuppressedError, deliver_later, tenant
from mailglass.errors import LedgerError, RouteError
from mailglass.ledger import database
from mailglass.ledger.suppressions import Suppression, suppress
from mailglass.settings import configure
from tests.django_project import HAS_MAILERS, shop

__all__ = ["shop"]
PDF = b"%PDF-1.7"
ICS = "BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nEND:VCALENDAR\r\n"


def sent(cluster: Any) -> list[Any]:
    """Each delivery with its content, in order."""
    sql = (
        "SELECT d.*, m.content FROM mailglass.deliveries d LEFT JOIN mailglass.messages m ON m.id = d.message_id"
        " ORDER BY d.id"
    )
    with psycopg.connect(cluster.environment["MAILGLASS_DATABASE_URL"], row_factory=namedtuple_row) as connection:
        return connection.execute(sql).fetchall()


def message(**fields: Any) -> EmailMultiAlternatives:
    given = {"subject": "Hello", "body": "Hello, Ada.", "to": ["ada@example.com"], **fields}
    return EmailMultiAlternatives(**given)


def with_attributes(**attributes: Any) -> EmailMultiAlternatives:
    made = message()
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def people(delivery: Any) -> tuple[str, list[str], list[str]]:
    content = delivery.content
    return (
        delivery.recipient,
        [pair[1] for pair in content.get("cc", [])],
        [pair[1] for pair in content.get("bcc", [])],
    )


def test_send_mail_records_a_delivery_that_is_rung(shop: Any, cluster: Any) -> None:
    html = "<p>Hello, <b>Ada</b>.</p>"
    assert (
        mail.send_mail("Hello", "Hello, Ada.", "Shop <shop@example.com>", ["ada@example.com"], html_message=html) == 1
    )
    (delivery,) = sent(cluster)
    assert (delivery.recipient, delivery.tenant_id, delivery.stream) == ("ada@example.com", "default", "transactional")
    assert delivery.content["subject"] == "Hello"
    assert (delivery.content["text"], delivery.content["html"]) == ("Hello, Ada.", html)
    assert delivery.content["from"] == ["Shop", "shop@example.com"]
    assert cluster.rings.count() == 1


RECIPIENTS = {
    "one": ({"to": ["a@example.com"]}, [("a@example.com", [], [])]),
    "several": (
        {"to": ["a@example.com", "Bob <b@example.com>"]},
        [("a@example.com", [], []), ("b@example.com", [], [])],
    ),
    "one with copies": (
        {"to": ["a@example.com"], "cc": ["c@example.com"], "bcc": ["d@example.com"]},
        [("a@example.com", ["c@example.com"], ["d@example.com"])],
    ),
    "several with a copy": (
        {"to": ["a@example.com", "b@example.com"], "cc": ["c@example.com"]},
        [("a@example.com", ["b@example.com", "c@example.com"], [])],
    ),
    "several with a blind copy": (
        {"to": ["a@example.com", "b@example.com"], "bcc": ["d@example.com"]},
        [("a@example.com", ["b@example.com"], ["d@example.com"])],
    ),
    "blind copies alone": (
        {"to": [], "bcc": ["a@example.com", "b@example.com"]},
        [("a@example.com", [], []), ("b@example.com", [], [])],
    ),
    "copies alone": (
        {"to": [], "cc": ["a@example.com", "b@example.com"]},
        [("a@example.com", ["b@example.com"], [])],
    ),
    "one named several times": (
        {"to": ["a@example.com", "A@example.com", ""], "cc": ["a@EXAMPLE.com"]},
        [("a@example.com", [], [])],
    ),
    "lazy and with space around": ({"to": [lazystr(" Ada <a@example.com> ")]}, [("a@example.com", [], [])]),
}


@pytest.mark.parametrize("case", RECIPIENTS)
def test_recipients_get_one_mail_each_as_the_table_says(shop: Any, cluster: Any, case: str) -> None:
    fields, expected = RECIPIENTS[case]
    assert message(**fields).send() == 1
    assert sorted(map(people, sent(cluster))) == expected


def test_more_recipients_than_a_message_holds_are_as_many_deliveries(shop: Any, cluster: Any) -> None:
    everybody = [f"reader{number}@example.com" for number in range(120)]
    assert message(to=[], bcc=everybody).send() == 1
    assert {delivery.recipient for delivery in sent(cluster)} == set(everybody)


def test_a_mail_to_nobody_is_not_sent(shop: Any, cluster: Any) -> None:
    assert message(to=[]).send() == 0
    assert backend().send_messages([message(to=[])]) == 0
    assert backend().send_messages([]) == 0
    assert sent(cluster) == []


@pytest.mark.parametrize("sender", ["webmaster@localhost", "root@localhost"])
def test_djangos_default_sender_stands_for_the_accounts_or_default_from(shop: Any, cluster: Any, sender: str) -> None:
    message(from_email=sender).send()
    assert "from" not in sent(cluster)[0].content


def test_mail_admins_reaches_each_of_them(shop: Any, cluster: Any) -> None:
    shop.ADMINS = (
        ["a@example.com", "b@example.com"] if HAS_MAILERS else [("A", "a@example.com"), ("B", "b@example.com")]
    )
    mail.mail_admins("Down", "The shop is down.")
    assert [delivery.recipient for delivery in sent(cluster)] == ["a@example.com", "b@example.com"]
    assert sent(cluster)[0].content["subject"] == "[Django] Down"


def test_headers_reply_to_and_an_own_message_id_survive(shop: Any, cluster: Any) -> None:
    headers = {"Message-ID": "<thread-1@example.com>", "X-Priority": 1, "List-Id": lazystr("<news.example.com>")}
    message(headers=headers, reply_to=["Help <help@example.com>"]).send()
    content = sent(cluster)[0].content
    assert dict(content["headers"]) == {**headers, "X-Priority": "1", "List-Id": "<news.example.com>"}
    assert content["reply_to"] == [["Help", "help@example.com"]]


def test_headers_from_and_reply_to_go_before_the_attributes(shop: Any, cluster: Any) -> None:
    headers = {"From": "Sales <sales@example.com>", "Reply-To": '"Ada, Inc." <ada@example.com>, bob@example.com'}
    message(headers=headers, reply_to=["help@example.com"]).send()
    content = sent(cluster)[0].content
    assert content["from"] == ["Sales", "sales@example.com"]
    assert content["reply_to"] == [["Ada, Inc.", "ada@example.com"], ["", "bob@example.com"]]
    assert "headers" not in content


def test_lazy_strings_are_read_at_the_call(shop: Any, cluster: Any) -> None:
    mail.send_mail(lazystr("Hello"), lazystr("Hello, Ada."), lazystr("shop@example.com"), [lazystr("ada@example.com")])
    content = sent(cluster)[0].content
    assert (content["subject"], content["text"]) == ("Hello", "Hello, Ada.")


def test_an_html_body_gets_a_text(shop: Any, cluster: Any) -> None:
    made = message(body="<p>Hello, Ada.</p>")
    made.content_subtype = "html"
    made.send()
    content = sent(cluster)[0].content
    assert (content["html"], content["text"].strip()) == ("<p>Hello, Ada.</p>", "Hello, Ada.")


def test_an_empty_body_is_sent(shop: Any, cluster: Any) -> None:
    assert message(body="").send() == 1
    assert sent(cluster)[0].content["text"] == ""


def test_an_invitation_goes_as_an_attachment_that_keeps_its_method(shop: Any, cluster: Any) -> None:
    made = message()
    made.attach_alternative(ICS, "text/calendar; method=REQUEST")
    made.send()
    (item,) = sent(cluster)[0].content["attachments"]
    assert (item["filename"], item["content_type"]) == ("invite.ics", "text/calendar; method=REQUEST; charset=utf-8")


def image(disposition: str = "inline") -> MIMEImage:
    part = MIMEImage(b"\x89PNG", "png")
    part["Content-ID"] = "<logo>"
    part["Content-Disposition"] = disposition
    return part


def modern_part() -> email.message.MIMEPart:
    part = email.message.MIMEPart()
    part.set_content(PDF, maintype="application", subtype="pdf", filename="a.pdf")
    return part


def old_part() -> MIMEBase:
    part = MIMEBase("text", "calendar", method="REQUEST", charset="utf-8")
    part.set_payload(ICS.encode())
    return part


ATTACHMENTS = {
    "tuple": (("a.pdf", PDF, "application/pdf"), ("a.pdf", "application/pdf", PDF, "")),
    "tuple without a type": (("a.pdf", PDF), ("a.pdf", "application/pdf", PDF, "")),
    "tuple without a name": ((None, PDF, "application/pdf"), ("attachment.pdf", "application/pdf", PDF, "")),
    "text": (("a.csv", "käse", "text/csv"), ("a.csv", "text/csv; charset=utf-8", "käse".encode(), "")),
    "MIMEPart": (modern_part(), ("a.pdf", "application/pdf", PDF, "")),
    "MIMEBase": (old_part(), ("invite.ics", "text/calendar; charset=utf-8; method=REQUEST", ICS.encode(), "")),
    "image that the HTML shows": (image(), ("attachment.png", "image/png", b"\x89PNG", "logo")),
}


@pytest.mark.filterwarnings("ignore:MIMEBase attachments are deprecated")
@pytest.mark.parametrize("case", ATTACHMENTS)
def test_an_attachment_of_each_form_travels(shop: Any, cluster: Any, case: str) -> None:
    given, expected = ATTACHMENTS[case]
    made = message()
    # Django 5.2 takes no MIMEPart by `attach`
    made.attachments.append(given)
    made.attach_alternative('<img src="cid:logo">', "text/html")
    made.send()
    (item,) = sent(cluster)[0].content["attachments"]
    content = base64.b64decode(item["content"])
    assert (item["filename"], item["content_type"], content, item["content_id"]) == expected


@pytest.mark.filterwarnings("ignore:MIMEBase attachments are deprecated")
def test_an_image_that_the_html_does_not_show_is_an_attachment(shop: Any, cluster: Any) -> None:
    message(attachments=[image()]).send()
    assert sent(cluster)[0].content["attachments"][0]["content_id"] == ""


@pytest.mark.parametrize("form", ["django", "standard library", "bytes"])
def test_a_forwarded_mail_is_attached(shop: Any, cluster: Any, form: str) -> None:
    inner = message(subject="Inner")
    content = {"django": inner, "standard library": inner.message(), "bytes": inner.message().as_bytes()}[form]
    made = message()
    made.attach("inner.eml", content, "message/rfc822")
    made.send()
    (item,) = sent(cluster)[0].content["attachments"]
    assert (item["filename"], item["content_type"]) == ("inner.eml", "message/rfc822")
    assert b"Subject: Inner" in base64.b64decode(item["content"])


def test_tags_metadata_and_options_of_the_provider_travel(shop: Any, cluster: Any) -> None:
    made = with_attributes(tags=["welcome"], metadata={"order": 4711}, esp_extra={"X": 1})
    made.send()
    content = sent(cluster)[0].content
    assert (content["tags"], content["metadata"]) == (["welcome"], {"order": "4711"})
    assert content["options"] == {"smtp": {"X": 1}}
    with_attributes(esp_extra={"smtp": {"X": 2}, "null": {}}).send()
    assert sent(cluster)[1].content["options"] == {"smtp": {"X": 2}, "null": {}}


def test_merged_metadata_and_headers_make_a_mail_for_each_person(shop: Any, cluster: Any) -> None:
    made = with_attributes(
        to=["a@example.com", "b@example.com"],
        metadata={"batch": "1"},
        merge_metadata={"a@example.com": {"user": 7}},
        merge_headers={"b@example.com": {"List-Unsubscribe": "<https://example.com/u/b>"}},
    )
    assert made.send() == 1
    first, second = sent(cluster)
    assert (first.content["metadata"], second.content["metadata"]) == ({"batch": "1", "user": "7"}, {"batch": "1"})
    assert "headers" not in first.content
    assert second.content["headers"] == [["List-Unsubscribe", "<https://example.com/u/b>"]]


IN_AN_HOUR = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)


@pytest.mark.parametrize(
    "send_at",
    [IN_AN_HOUR, IN_AN_HOUR.astimezone(timezone(timedelta(hours=2))), IN_AN_HOUR.replace(tzinfo=None)],
    ids=["aware", "of another zone", "naive"],
)
def test_send_at_puts_a_delivery_off(shop: Any, cluster: Any, send_at: datetime) -> None:
    shop.TIME_ZONE = "UTC"
    with_attributes(send_at=send_at).send()
    with_attributes(send_at=IN_AN_HOUR.timestamp()).send()
    assert {delivery.due_at for delivery in sent(cluster)} == {IN_AN_HOUR}
    assert cluster.rings.count() == 0


def test_messages_of_one_call_may_be_due_at_different_times(shop: Any, cluster: Any) -> None:
    messages = [with_attributes(send_at=IN_AN_HOUR), message(), with_attributes(send_at=date(2026, 1, 1))]
    assert backend().send_messages(messages) == 3
    assert {len(made.anymail_status.recipients) for made in messages} == {1}


def test_anymail_status_holds_the_delivery(shop: Any, cluster: Any) -> None:
    suppress(cluster.runtime.database, [Suppression("default", "b@example.com", "manual", "manual")])
    made = message(to=["a@example.com", "b@example.com"])
    made.send()
    status = made.anymail_status
    assert status.status == {"queued", "rejected"}
    assert deliver_later.AsyncResult(status.recipients["a@example.com"].message_id).state == "queued"
    assert status.recipients["b@example.com"].status == "rejected"
    assert (len(status.message_id), status.esp_response) == (2, None)
    alone = message()
    alone.send()
    assert alone.anymail_status.message_id == str(sent(cluster)[-1].id)


class Encrypting(EmailMessage):
    def message(self, **options: Any) -> Any:
        return super().message(**options)


def encrypting() -> EmailMessage:
    return Encrypting("Hello", "Hello", "shop@example.com", ["ada@example.com"])


def second_html() -> EmailMessage:
    return message(alternatives=[("<p>1</p>", "text/html"), ("<p>2</p>", "text/html")])


def of_subtype(subtype: str) -> EmailMessage:
    made = message()
    made.content_subtype = subtype
    return made


REFUSED = {
    "template_id": (lambda: with_attributes(template_id="t-1"), "Mailable"),
    "merge_data": (lambda: with_attributes(merge_data={"ada@example.com": {"name": "Ada"}}), "Mailable"),
    "merge_global_data": (lambda: with_attributes(merge_global_data={"shop": "x"}), "Mailable"),
    "envelope_sender": (lambda: with_attributes(envelope_sender="bounces@example.com"), "return path"),
    "track_opens": (lambda: with_attributes(track_opens=True), "esp_extra"),
    "track_clicks": (lambda: with_attributes(track_clicks=False), "esp_extra"),
    "send_at": (lambda: with_attributes(send_at="tomorrow"), "datetime"),
    "tags": (lambda: with_attributes(tags="welcome"), "list"),
    "metadata": (lambda: with_attributes(metadata={"a": object()}), "str"),
    "merge_metadata": (lambda: with_attributes(merge_metadata={"a@example.com": {}}, cc=["c@example.com"]), "cc"),
    "message": (encrypting, "attributes"),
    "alternatives": (second_html, "second"),
    "alternatives of AMP": (lambda: message(alternatives=[("<html amp4email>", "text/x-amp-html")]), "attach"),
    "content_subtype": (lambda: of_subtype("markdown"), "attach"),
    "from_": (lambda: message(from_email="errors@localhost"), "localhost"),
    "to": (lambda: message(to=["a@example.com, b@example.com"]), "valid"),
    "headers": (lambda: message(headers={"To": "list@example.com"}), "`to`"),
    "headers of Date": (lambda: message(headers={"Date": "yesterday"}), "date"),
    "headers of Cc": (lambda: message(headers={"Cc": "list@example.com"}), "`cc`"),
    "headers of Bcc": (lambda: message(headers={"bcc": "eve@example.com"}), "`bcc`"),
    "headers of Sender": (lambda: message(headers={"Sender": "list@example.com"}), "sender"),
    "headers of Return-Path": (lambda: message(headers={"Return-Path": "list@example.com"}), "return-path"),
    "cc": (lambda: message(cc=[f"reader{number}@example.com" for number in range(50)]), "at most 50"),
    "attachments": (lambda: message(attachments=[MIMEMultipart()]), "parts"),
    "attachments of a path": (lambda: message(attachments=[("/etc/a.pdf", PDF, "application/pdf")]), "slash"),
    "subject": (lambda: message(subject="Hello\nBcc: eve@example.com"), "CR"),
}


@pytest.mark.filterwarnings("ignore:MIMEBase attachments are deprecated")
@pytest.mark.parametrize("case", REFUSED)
def test_an_attribute_without_sense_is_refused_with_the_remedy_before_anything_is_recorded(
    shop: Any, cluster: Any, case: str
) -> None:
    make, remedy = REFUSED[case]
    with pytest.raises(MessageError) as refusal:
        backend().send_messages([message(), make()])
    assert refusal.value.field == case.partition(" ")[0]
    assert remedy in str(refusal.value)
    assert "eve@example.com" not in str(refusal.value)
    assert sent(cluster) == []


def test_an_esp_extra_for_several_providers_must_name_them(shop: Any, cluster: Any) -> None:
    config = cluster.directory / "mailglass.toml"
    text = config.read_text().replace('accounts = ["relay"]', 'accounts = ["relay", "nowhere"]')
    config.write_text(text, encoding="utf-8")
    configure(None)
    with pytest.raises(MessageError, match=r'esp_extra: .*\{"null": \{...\}, "smtp": \{...\}\}'):
        with_attributes(esp_extra={"X": 1}).send()


def test_a_line_end_in_a_header_is_the_error_that_django_has_for_it(shop: Any, cluster: Any) -> None:
    if HAS_MAILERS:
        kind: type[Exception] = ValueError
    else:
        from django.core.mail import BadHeaderError as kind
    with pytest.raises(kind):
        mail.send_mail("Hello\nBcc: eve@example.com", "Hello", None, ["ada@example.com"])


def backend(**options: Any) -> Any:
    from mailglass.integrations.django import EmailBackend

    return EmailBackend(**options)


def test_fail_silently_sends_the_rest_and_raises_nothing(shop: Any, cluster: Any) -> None:
    suppress(cluster.runtime.database, [Suppression("default", "b@example.com", "manual", "manual")])
    messages = [message(subject="a\nb"), message(), message(to=["b@example.com"]), with_attributes(template_id="t")]
    assert backend(fail_silently=True).send_messages(messages) == 1
    assert backend(fail_silently=True).send_messages([messages[2]]) == 0
    assert [delivery.recipient for delivery in sent(cluster) if delivery.status == "queued"] == ["ada@example.com"]


def test_a_suppressed_recipient_is_an_error_and_recorded(shop: Any, cluster: Any) -> None:
    suppress(cluster.runtime.database, [Suppression("default", "ada@example.com", "manual", "manual")])
    with pytest.raises(SuppressedError) as refusal:
        message().send()
    (delivery,) = sent(cluster)
    assert (delivery.status, refusal.value.delivery_id) == ("suppressed", delivery.id)


def test_a_suppressed_recipient_beside_others_is_counted_and_not_raised(shop: Any, cluster: Any) -> None:
    suppress(cluster.runtime.database, [Suppression("default", "ada@example.com", "manual", "manual")])
    assert message(to=["ada@example.com", "bob@example.com"]).send() == 1
    assert backend().send_messages([message(), message(to=["bob@example.com"])]) == 1


def test_options_of_the_backend_choose_tenant_and_stream(shop: Any, cluster: Any) -> None:
    assert backend(tenant="acme", stream="bulk").send_messages([message()]) == 1
    with tenant("umbrella"):
        message().send()
    found = sorted((delivery.tenant_id, delivery.stream) for delivery in sent(cluster))
    assert found == [("acme", "bulk"), ("umbrella", "transactional")]


@pytest.mark.parametrize("options", [{"tennant": "acme"}, {"host": "smtp.example.com"}, {"username": "me"}])
def test_an_unknown_option_is_refused(shop: Any, options: dict[str, str]) -> None:
    with pytest.raises(TypeError, match=next(iter(options))):
        backend(**options)
    with pytest.raises(MessageError, match="stream"):
        backend(stream="marketing")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
def test_credentials_of_a_call_are_refused(shop: Any, cluster: Any) -> None:
    with pytest.raises(TypeError, match="credentials belong to the accounts"):
        mail.send_mail("Hello", "Hello.", None, ["ada@example.com"], auth_user="me", auth_password="secret")
    assert sent(cluster) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
def test_fail_silently_of_a_call_is_honoured(shop: Any, cluster: Any) -> None:
    assert mail.send_mail("Hello", "Hello.", None, ["ada"], fail_silently=True) == 0
    assert mail.send_mail("Hello", "Hello.", None, ["ada@example.com"], fail_silently=True) == 1
    assert len(sent(cluster)) == 1


def test_a_mass_mail_is_one_statement(shop: Any, cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    run = database.run_on_psycopg

    def counting(connection: Any, name: str, params: Any) -> Any:
        names.append(name)
        return run(connection, name, params)

    monkeypatch.setattr(database, "run_on_psycopg", counting)
    mails = [("Hello", "Hello.", None, [f"reader{number}@example.com"]) for number in range(300)]
    assert mail.send_mass_mail(mails) == 300
    assert names[-1:] == ["submit"]
    assert names.count("submit") == 1


def test_a_missing_route_is_an_error_and_nothing_is_recorded(shop: Any, cluster: Any) -> None:
    config = cluster.directory / "mailglass.toml"
    config.write_text(config.read_text().replace("[[routes]]\naccounts", '[[routes]]\ntenant = "a"\naccounts'))
    configure(None)
    with pytest.raises(RouteError):
        message().send()
    assert sent(cluster) == []


def test_a_refused_statement_is_an_error_without_content(shop: Any, cluster: Any) -> None:
    with psycopg.connect(cluster.environment["MAILGLASS_DATABASE_URL"], autocommit=True) as connection:
        connection.execute(
            "ALTER TABLE mailglass.deliveries ADD CONSTRAINT no_ada CHECK (recipient <> 'ada@example.com')"
        )
    with pytest.raises(LedgerError) as refusal:
        message().send()
    assert "ada@" not in str(refusal.value)
    assert message(to=["bob@example.com"]).send() == 1


@pytest.mark.skipif(not HAS_MAILERS, reason="MAILERS are of Django 6.1")
def test_mailers_take_own_options_and_refuse_unknown_ones(shop: Any, cluster: Any) -> None:
    from django.core.mail import InvalidMailer, mailers

    path = "mailglass.integrations.django.EmailBackend"
    shop.MAILERS = {
        "default": {"BACKEND": path},
        "news": {"BACKEND": path, "OPTIONS": {"tenant": "acme", "stream": "bulk"}},
        "wrong": {"BACKEND": path, "OPTIONS": {"tennant": "acme"}},
    }
    assert mail.send_mail("News", "Hello.", None, ["ada@example.com"], using="news") == 1
    (delivery,) = sent(cluster)
    assert (delivery.tenant_id, delivery.stream) == ("acme", "bulk")
    with pytest.raises(InvalidMailer, match="tennant"):
        mailers["wrong"]


@pytest.mark.skipif(not HAS_MAILERS, reason="a deprecated setting is what all use before Django 6.1")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
def test_the_old_setting_works_where_mailers_are_not_set(shop: Any, cluster: Any) -> None:
    del shop.MAILERS
    shop.EMAIL_BACKEND = "mailglass.integrations.django.EmailBackend"
    assert mail.send_mail("Hello", "Hello.", None, ["ada@example.com"]) == 1
    assert mail.send_mail("Hello", "Hello.", None, ["ada"], fail_silently=True) == 0
    assert len(sent(cluster)) == 1
