"""Mails of a Django project without any server: who gets which mail, and templates in Django's language."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from typing import Any

import pytest
from django.core.mail import EmailMessage, EmailMultiAlternatives, send_mail
from django.db import transaction
from django.utils.functional import lazystr
from hypothesis import given
from hypothesis import strategies as st

from mailglass import MailglassError, TemplateError
from mailglass.errors import TemplateErrorType
from mailglass.integrations.django import DjangoMailable
from mailglass.integrations.django.attributes import moment_of
from mailglass.integrations.django.messages import envelopes, messages_of
from mailglass.mail.addresses import Address
from mailglass.mail.streams import Stream
from mailglass.rendering.content import render_content
from mailglass.testing import outbox
from tests.django_project import project

CONTEXT = {"name": "<Ada & Bob>", "secret": "hunter2"}


class Welcome(DjangoMailable):
    subject = "Welcome, {{ name }}"
    html = "{% if name %}<p>{{ name }}{{ missing }}</p>{% endif %}"
    text = "Hello, {{ name }}."


class WithoutText(DjangoMailable):
    subject = "Welcome\n {{ name|lower }}"
    html = "<p>{{ name }}</p>"


class WithoutFile(DjangoMailable):
    subject = "Welcome"
    html_template = "nowhere/welcome.html"


class Misspelt(DjangoMailable):
    subject = "Welcome"
    text = "{% nonsense %}{{ secret }}"


class Failing(DjangoMailable):
    subject = "Welcome"
    text = "{% url secret %}"


def rendered(cls: type[DjangoMailable]) -> dict[str, Any]:
    with project({}):
        return render_content(cls(to="ada@example.com", context=CONTEXT).content())


def test_html_of_djangos_templates_is_escaped_and_text_is_not() -> None:
    content = rendered(Welcome)
    assert content["subject"] == "Welcome, <Ada & Bob>"
    assert content["html"] == "<p>&lt;Ada &amp; Bob&gt;</p>"
    assert content["text"] == "Hello, <Ada & Bob>."


def test_a_text_is_made_of_the_html_of_a_django_template() -> None:
    content = rendered(WithoutText)
    assert (content["subject"], content["text"].strip()) == ("Welcome <ada & bob>", "<Ada & Bob>")


@pytest.mark.parametrize(
    ("mailable", "kind"),
    [
        (WithoutFile, TemplateErrorType.MISSING_FILE),
        (Misspelt, TemplateErrorType.SYNTAX),
        (Failing, TemplateErrorType.RENDERING),
    ],
)
def test_a_failure_of_a_django_template_names_its_kind_and_no_value(
    mailable: type[DjangoMailable], kind: TemplateErrorType
) -> None:
    with pytest.raises(TemplateError) as error:
        rendered(mailable)
    assert error.value.type is kind
    assert "hunter2" not in str(error.value)
    assert error.value.__context__ is None


PEOPLE = st.lists(st.integers(0, 300), unique=True, max_size=130)


@given(PEOPLE, st.integers(0, 130), st.integers(0, 130))
def test_each_person_gets_one_mail_and_blind_copies_show_nobody(people: list[int], first: int, second: int) -> None:
    addresses = [Address(f"p{number}@example.com") for number in people]
    first, second = sorted((first, second))
    to, cc, bcc = addresses[:first], addresses[first:second], addresses[second:]
    found = list(envelopes(to, cc, bcc))
    assert sorted(item.key for envelope in found for field in envelope for item in field) == sorted(
        address.key for address in addresses
    )
    shown = {item for envelope in found for item in envelope.cc}
    assert not shown & set(bcc)
    assert all(len(envelope.to) == 1 for envelope in found if envelope.cc or envelope.bcc)
    assert all(len(envelope.to) <= 50 for envelope in found)


class UNSET:
    """The value by which Anymail marks an attribute that is not set."""


def test_attributes_that_anymail_has_not_set_are_no_attributes() -> None:
    with project({}):
        message = EmailMessage("Hello", "Hello.", "shop@example.com", ["ada@example.com"])
        for name in (
            "template_id",
            "tags",
            "metadata",
            "esp_extra",
            "merge_metadata",
            "track_opens",
            "envelope_sender",
        ):
            setattr(message, name, UNSET)
        (made,) = messages_of(message, "default", Stream.TRANSACTIONAL)
    assert (made.tags, made.metadata, made.provider_options) == ((), {}, {})


@pytest.mark.parametrize("own", [{}, {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}])
def test_mails_of_send_mail_are_in_the_outbox_of_a_test_at_once(own: dict[str, Any]) -> None:
    with project(own), outbox() as box, transaction.atomic() if own else nullcontext():
        send_mail("Welcome", "Hello, Ada.", "shop@example.com", ["ada@example.com"])
        box.assert_sent(to="ada@example.com", subject="Welcome", count=1)


class Sendless:
    """Anything."""


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.sampled_from(["ada@example.com", "text/html", "a/b", Sendless, Sendless(), "\ud800", "a\nb", lazystr("x")]),
)
VALUES = st.recursive(
    JUNK,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.tuples(inner, inner, inner),
        st.dictionaries(st.sampled_from(["ada@example.com", "From", "smtp", 5]), inner, max_size=2),
    ),
    max_leaves=6,
)
ATTRIBUTES = (
    "subject body from_email to cc bcc reply_to attachments extra_headers alternatives content_subtype tags metadata "
    "esp_extra merge_metadata merge_headers send_at template_id merge_data envelope_sender track_opens"
).split()


@given(st.dictionaries(st.sampled_from(ATTRIBUTES), VALUES, min_size=1, max_size=3))
def test_an_attribute_of_any_value_is_sent_or_refused_by_name(attributes: dict[str, Any]) -> None:
    with project({}):
        message = EmailMultiAlternatives("Hello", "Hello.", "shop@example.com", ["ada@example.com"])
        for name, value in attributes.items():
            setattr(message, name, value)
        with suppress(MailglassError):
            moment_of(getattr(message, "send_at", None))
            assert all(made.to for made in messages_of(message, "default", Stream.TRANSACTIONAL))
