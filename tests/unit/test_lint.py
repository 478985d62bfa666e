"""The repository's own rules find what they forbid, with its place, and nothing else."""

from __future__ import annotations

import pytest

from tests import lint


@pytest.mark.parametrize(
    "name", ["what_is_sent", "who_is_suppressed", "it_works", "one_mail", "nobody_waits", "where_to"]
)
def test_test_name_without_its_subject_is_found(name: str) -> None:
    text = f"import pytest\n\n\n    async def test_{name}(given) -> None:\n"
    (found,) = lint.names("tests/test_a.py", text)
    assert found.startswith(f"tests/test_a.py:4: test_{name}: ")


@pytest.mark.parametrize("name", ["whatsapp_is_no_provider", "items_are_kept", "expired_mail_is_not_sent", "one"])
def test_test_name_with_its_subject_is_left(name: str) -> None:
    assert list(lint.names("tests/test_a.py", f"def test_{name}() -> None:\n")) == []


def test_unformatted_place_is_found() -> None:
    assert list(lint.skips("a.py", "a = 1\nb = [\n    1\n]  # fmt: " + "skip\n")) == ["a.py:4: not formatted"]
