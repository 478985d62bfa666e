"""From a stored context to frozen content, and from frozen content to what a provider gets."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from mailglass.errors import TemplateError
from mailglass.mail.addresses import Address
from mailglass.mail.message import Attachment, Message
from mailglass.mail.outgoing import Outgoing
from mailglass.rendering import render_content
from mailglass.rendering.content import with_text
from mailglass.rendering.outgoing import outgoing
from mailglass.rendering.templates import forget
from mailglass.settings import Settings, configure

Write = Callable[..., str]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Write]:
    """Writes the module of an application with its templates; gives the module's name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    configure(Settings(templates=(str(tmp_path / "shared"),)))
    name = f"shop_{abs(hash(request.node.nodeid))}"

    def write(source: str, **templates: str) -> str:
        (tmp_path / f"{name}.py").write_text(
            "from mailglass.mail.mailable import Mailable\n" + textwrap.dedent(source), encoding="utf-8"
        )
        for file, template in templates.items():
            path = tmp_path / file.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(template, encoding="utf-8")
        return name

    yield write
    configure(None)
    sys.modules.pop(name, None)


def stored(path: str, context: dict[str, Any] | None = None, **envelope: Any) -> dict[str, Any]:
    return {"v": 1, "mailable": {"class": path, "context": context or {}}, **envelope}


def test_a_mailable_becomes_frozen_content_without_its_context(shop: Write) -> None:
    module = shop(
        """
        class Receipt(Mailable):
            subject = "Receipt {{ number }}"
            html_template = "receipt.html"
        """,
        templates__receipt_dot_html="<style>p{color:red}</style><p>No. {{ number }} for {{ name }}</p>",
    )
    content = stored(
        f"{module}:Receipt", {"number": 7, "name": "<Ada>"}, tags=["receipt"], cc=[["", "bob@example.com"]]
    )
    assert render_content(content) == {
        "v": 1,
        "subject": "Receipt 7",
        "html": "<html><head><style></style></head><body>"
        '<p style="color: red;">No. 7 for &lt;Ada&gt;</p></body></html>',
        "text": "No. 7 for <Ada>\n",
        "tags": ["receipt"],
        "cc": [["", "bob@example.com"]],
        "mailable": {"class": f"{module}:Receipt"},
    }
    assert content["mailable"]["context"] == {"number": 7, "name": "<Ada>"}


def test_content_of_a_plain_message_comes_back_unchanged() -> None:
    content = Message(to="ada@example.com", subject="s", text="t").content()
    assert render_content(content) is content


def test_rendered_content_is_not_rendered_again(shop: Write) -> None:
    module = shop(
        """
        class Note(Mailable):
            subject = "s"
            text = "{{ word }}"
        """
    )
    frozen = render_content(stored(f"{module}:Note", {"word": "{{ word }}"}))
    assert frozen["text"] == "{{ word }}"
    assert render_content(frozen) is frozen


def test_html_is_escaped_and_subject_and_text_are_not(shop: Write) -> None:
    module = shop(
        """
        class Note(Mailable):
            subject = "{{ x }}"
            html = "<p>{{ x }}</p>{% include 'part.html' %}"
            text = "{{ x }}{% include 'part.html' %}"
        """,
        templates__part_dot_html="<b>{{ x }}</b>",
    )
    frozen = render_content(stored(f"{module}:Note", {"x": "a & <b>"}))
    assert frozen["subject"] == "a & <b>"
    assert frozen["text"] == "a & <b><b>a & <b></b>"
    assert frozen["html"] == "<p>a &amp; &lt;b&gt;</p><b>a &amp; &lt;b&gt;</b>"


def test_no_value_can_break_the_subject_into_two_headers(shop: Write) -> None:
    module = shop(
        """
        class Note(Mailable):
            subject = '''
                Hello {{ name }}
            '''
            text = "x"
        """
    )
    frozen = render_content(stored(f"{module}:Note", {"name": "Ada\r\nBcc: eve@example.com\u2028\x00x"}))
    assert frozen["subject"] == "Hello Ada Bcc: eve@example.com x"


def test_a_text_template_wins_over_the_text_made_from_the_html(shop: Write) -> None:
    module = shop(
        """
        class Note(Mailable):
            subject = "s"
            html = "<p>html</p>"
            text_template = "note.txt"
        """,
        templates__note_dot_txt="Items:\n{% for item in items %}\n- {{ item }}\n{% endfor %}\nBye\n",
    )
    assert render_content(stored(f"{module}:Note", {"items": ["a", "b"]}))["text"] == "Items:\n- a\n- b\nBye"


def test_templates_beside_the_module_come_before_the_shared_ones(shop: Write) -> None:
    module = shop(
        """
        class Note(Mailable):
            subject = "s"
            text_template = "note.txt"
            html_template = "note.html"
        """,
        templates__note_dot_txt="beside",
        shared__note_dot_txt="shared",
        shared__note_dot_html="shared html",
    )
    frozen = render_content(stored(f"{module}:Note"))
    assert (frozen["text"], frozen["html"]) == ("beside", "shared html")


def test_templates_are_compiled_once_until_they_are_forgotten(shop: Write, tmp_path: Path) -> None:
    module = shop(
        """
        class Note(Mailable):
            subject = "s"
            text_template = "note.txt"
        """,
        templates__note_dot_txt="first",
    )
    content = stored(f"{module}:Note")
    assert render_content(content)["text"] == "first"
    (tmp_path / "templates" / "note.txt").write_text("second")
    assert render_content(content)["text"] == "first"
    forget()
    assert render_content(content)["text"] == "second"


def test_rule_that_cannot_be_inlined_stays_in_the_style_tag(shop: Write) -> None:
    module = shop(
        """
        class Note(Mailable):
            subject = "s"
            html_template = "note.html"
        """,
        templates__note_dot_html=(
            "<html><head><style>.a{margin:0} .a:hover{color:blue} @media (max-width:9px){.a{color:red!important}}"
            '</style></head><body><!--[if mso]><v:rect></v:rect><![endif]--><p class="a">x</p></body></html>'
        ),
    )
    html = render_content(stored(f"{module}:Note"))["html"]
    assert 'style="margin: 0;"' in html
    assert ".a:hover" in html
    assert "@media" in html
    assert "<!--[if mso]><v:rect></v:rect><![endif]-->" in html
    assert ".a { margin" not in html


def test_a_preheader_hidden_by_the_style_sheet_is_not_in_the_text(shop: Write) -> None:
    module = shop(
        """
        class Note(Mailable):
            subject = "s"
            html = "<style>.pre{display:none}</style><div class=pre>Preheader</div><p>Body</p>"
        """
    )
    assert render_content(stored(f"{module}:Note"))["text"] == "Body\n"


SECRET = "secret-value"


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ('html = "<p>\\n{{ nobody }}</p>"', "html: UndefinedError of nobody in the class line 2; pass what is missing"),
        ('html = "{{ d[value] }}"', "html: UndefinedError in the class line 1; pass what is missing"),
        ('html = "{{ 1 / 0 }}"', "html: ZeroDivisionError in the class line 1"),
        ('html = "{% spam %}"', "html: TemplateSyntaxError: unknown tag spam in the class line 1"),
        ('html = "{{ value is odder }}"', "html: TemplateAssertionError: unknown test odder in the class line 1"),
        ('html = "{% if %}"', "html: TemplateSyntaxError in the class line 1; correct the template"),
        ('html_template = "none.html"', "html (none.html): TemplateNotFound; put the file into templates/"),
        ('html_template = "outer.html"', "html: UndefinedError of nobody in inner.html line 3"),
        ('html = "{% include value %}"', "html: TemplateNotFound in the class line 1"),
        (
            'html = "{{ value | nofilter }}"',
            "TemplateAssertionError: unknown filter nofilter in the class line 1",
        ),
        ('html = "{{ value * 6000000 }}"', "longer than"),
        ('subject = "{{ value * 100 }}"; html = "x"', "subject: at most 998 characters"),
    ],
)
def test_a_failure_names_the_mailable_and_its_kind_and_never_a_value(shop: Write, members: str, problem: str) -> None:
    module = shop(
        f"""
        class Broken(Mailable):
            subject = "s"
            {members}
        """,
        templates__outer_dot_html="<p>{% include 'inner.html' %}</p>",
        templates__inner_dot_html="a\nb\n{{ nobody }}",
    )
    with pytest.raises(TemplateError) as caught:
        render_content(stored(f"{module}:Broken", {"value": SECRET, "d": {}}))
    assert str(caught.value).startswith(f"{module}:Broken: ")
    assert problem in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert SECRET not in repr(caught.value.__context__)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("no.such.module:Receipt", "ModuleNotFoundError"),
        ("json:Receipt", "AttributeError"),
        ("json:JSONDecoder", "not a Mailable"),
        ("nonsense", "ModuleNotFoundError"),
    ],
)
def test_a_class_that_cannot_be_imported_is_named(path: str, problem: str) -> None:
    with pytest.raises(TemplateError, match=problem) as caught:
        render_content(stored(path))
    assert str(caught.value).startswith(f"{path}: cannot be imported")


def test_queueing_and_building_load_no_template_engine() -> None:
    source = """
        import sys
        import mailglass.mail.mailable, mailglass.rendering.mime, mailglass.rendering.outgoing
        loaded = {"jinja2", "css_inline", "httpx", "sqlalchemy", "email.policy"} & sys.modules.keys()
        assert not loaded, loaded
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(source)], check=True, timeout=60)


ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
CREATED = datetime(2026, 1, 1, tzinfo=UTC)
ADA = Address("ada@example.com", "Ada")
DEFAULT = Address("default@example.com")


def frozen_outgoing(content: dict[str, Any], default_sender: Address | None = DEFAULT) -> Outgoing:
    return outgoing(
        delivery_id=ID,
        tenant="acme",
        stream="bulk",
        recipient=ADA,
        created_at=CREATED,
        content=content,
        default_sender=default_sender,
    )


def test_outgoing_carries_everything_a_message_said() -> None:
    file = Attachment("a.bin", bytes(range(256)), "application/x-thing", "cid-1")
    message = Message(
        to=ADA,
        subject="s",
        text="t",
        html="<p>h</p>",
        from_="Shop <shop@example.com>",
        reply_to=["Help <help@example.com>"],
        cc="bob@example.com",
        bcc="eve@example.com",
        headers=[("X-A", "1"), ("X-A", "2")],
        tags=["a"],
        metadata={"k": "v"},
        attachments=[file],
        provider_options={"null": {"x": 1}},
    )
    assert frozen_outgoing(message.content()) == Outgoing(
        delivery_id=ID,
        tenant="acme",
        stream="bulk",
        recipient=ADA,
        sender=Address("shop@example.com", "Shop"),
        subject="s",
        created_at=CREATED,
        text="t",
        html="<p>h</p>",
        reply_to=(Address("help@example.com", "Help"),),
        cc=(Address("bob@example.com"),),
        bcc=(Address("eve@example.com"),),
        headers=(("X-A", "1"), ("X-A", "2")),
        tags=("a",),
        metadata={"k": "v"},
        attachments=(file,),
        options={"null": {"x": 1}},
    )


def test_content_without_a_sender_goes_out_from_the_default() -> None:
    mail = frozen_outgoing(Message(to=ADA, subject="s", text="t").content())
    assert mail.sender == DEFAULT
    assert (mail.html, mail.headers, mail.attachments, mail.metadata) == (None, (), (), {})


def test_without_any_sender_nothing_can_go_out() -> None:
    with pytest.raises(ValueError, match="no sender"):
        frozen_outgoing(Message(to=ADA, subject="s", text="t").content(), default_sender=None)


@pytest.mark.parametrize(
    ("members", "type"),
    [
        ('html = "{{ nobody }}"', "undefined"),
        ('html_template = "nowhere.html"', "missing_file"),
        ('html = "{% if %}"', "syntax"),
        ('html = "{{ 1 // 0 }}"', "rendering"),
        ('subject = "{{ value * 1000 }}"; html = "x"', "refused"),
    ],
)
def test_a_failure_has_a_type_for_the_deliveries_that_wait_for_it_to_be_mended(
    shop: Write, members: str, type: str
) -> None:
    module = shop(
        f"""
        class Broken(Mailable):
            subject = "s"
            {members}
        """
    )
    with pytest.raises(TemplateError) as caught:
        render_content(stored(f"{module}:Broken", {"value": "v"}))
    assert (caught.value.type, caught.value.retryable) == (type, False)


def test_a_class_that_is_not_installed_here_may_be_so_later() -> None:
    with pytest.raises(TemplateError) as caught:
        render_content(stored("no.such.module:Receipt"))
    assert (caught.value.type, caught.value.retryable) == ("not_installed", True)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"html": "<p>Hello</p>"}, "Hello\n"),
        ({"html": "<p>Hello</p>", "text": "Hi"}, "Hi"),
        ({"html": "<p>Hello</p>", "text": ""}, None),
        ({"html": "<img src=x>"}, None),
        ({"html": "<p>Hello</p>" + " " * 1024 * 1024}, None),
        ({"text": ""}, ""),
    ],
)
def test_a_message_of_html_gets_a_text_and_none_if_it_says_so(content: dict[str, str], text: str | None) -> None:
    assert with_text(content).get("text") == text
