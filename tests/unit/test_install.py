"""`mailglass install` and `uninstall`: edited blocks, places that are not certain, files that may not be written."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mailglass.cli import run
from mailglass.settings import load_settings
from mailglass.wiring.doctor import diagnose
from tests.unit.test_doctor import UNWIRED, project
from tests.unit.test_install_identity import tree

SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "install.json"
FLASK = "from flask import Flask\n\napp = Flask(__name__)\n"
DJANGO = {
    "manage.py": "",
    "shop/settings.py": "ROOT_URLCONF = 'shop.urls'\nINSTALLED_APPS = []\n",
    "shop/urls.py": "from django.urls import path\nurlpatterns = []\n",
}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A Flask application of one file."""
    root = tmp_path / "shop"
    root.mkdir()
    (root / "app.py").write_text(FLASK)
    return root


def refused(root: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The message of a refused installation, which has written nothing."""
    before = tree(root)
    assert run(["install", str(root), *arguments]) == 1
    assert tree(root) == before
    return capsys.readouterr().err


def test_the_doctor_passes_after_an_installation_and_the_settings_load(shop: Path) -> None:
    assert diagnose(shop).exit_code == 1
    assert run(["install", str(shop)]) == 0
    assert diagnose(shop).exit_code == 0
    settings = load_settings({}, shop / "mailglass.toml")
    assert list(settings.accounts) == ["relay"]
    assert settings.routes[0].accounts == ("relay",)


def test_the_first_mail_renders_from_its_template(shop: Path) -> None:
    assert run(["install", str(shop)]) == 0
    code = """
from mailglass.rendering import render_content
from mails import Welcome

mail = Welcome(to="ada@example.com", context={"name": "Ada <3"})
print(*render_content({"v": 1, "mailable": {"class": "mails:Welcome", "context": mail.context}}).values())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=shop, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Welcome, Ada <3" in done.stdout
    assert "Hello Ada &lt;3," in done.stdout
    assert "mailglass: file" not in done.stdout


@pytest.mark.parametrize("name", [name for name in UNWIRED if name != "flask without init_app"])
def test_the_doctors_finding_of_an_unwired_application_names_the_command(tmp_path: Path, name: str) -> None:
    findings = diagnose(project(tmp_path, UNWIRED[name][0])).findings
    assert "`mailglass install`" in next(finding.remedy for finding in findings if finding.id.endswith(".mount"))


def test_an_edited_block_is_kept_and_the_other_written_beside_it(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["install", str(shop)])
    edited = (shop / "app.py").read_text().replace("Mailglass(app)", 'Mailglass(app, url_prefix="/hooks")')
    (shop / "app.py").write_text(edited)
    before = tree(shop)
    assert run(["install", str(shop)]) == 1
    assert "app.py.mailglass_conflict: the block mount of app.py was edited" in capsys.readouterr().out
    assert (shop / "app.py.mailglass_conflict").read_text().splitlines()[1:] == [
        "# mailglass: begin mount 58b40959",
        "Mailglass(app)",
        "# mailglass: end mount",
    ]
    assert {name: raw for name, raw in tree(shop).items() if not name.endswith("conflict")} == before
    assert run(["install", str(shop)]) == 1
    assert run(["uninstall", str(shop)]) == 1
    assert "app.py: line 5 and what belongs to it were edited" in capsys.readouterr().out
    assert tree(shop) == {"app.py": edited.encode()}


@pytest.mark.parametrize("lost", ["# mailglass: begin mount 58b40959\n", "# mailglass: end mount\n"])
def test_a_block_that_lost_a_mark_counts_as_edited(shop: Path, lost: str) -> None:
    run(["install", str(shop)])
    (shop / "app.py").write_text((shop / "app.py").read_text().replace(lost, ""))
    before = (shop / "app.py").read_bytes()
    assert run(["install", str(shop)]) == 1
    assert (shop / "app.py").read_bytes() == before


def test_a_file_that_is_no_conflict_file_is_not_overwritten_by_one(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["install", str(shop)])
    (shop / "app.py").write_text((shop / "app.py").read_text().replace("Mailglass(app)", "Mailglass(app, None)"))
    (shop / "app.py.mailglass_conflict").write_text("mine\n")
    assert "Move it away" in refused(shop, capsys)


def test_a_block_follows_a_renamed_application(shop: Path) -> None:
    run(["install", str(shop)])
    (shop / "app.py").write_text((shop / "app.py").read_text().replace("app = Flask", "shop = Flask"))
    assert run(["install", str(shop)]) == 0
    assert "\nMailglass(shop)\n" in (shop / "app.py").read_text()


def test_a_block_and_its_import_may_be_moved_within_the_file(shop: Path) -> None:
    run(["install", str(shop)])
    lines = (shop / "app.py").read_text().splitlines(keepends=True)
    moved = [lines[1], lines[0], *lines[2:4], "\n", "app.debug = True\n", *lines[4:]]
    (shop / "app.py").write_text("".join(moved))
    assert run(["install", str(shop)]) == 0
    assert (shop / "app.py").read_text() == "".join(moved)
    assert run(["uninstall", str(shop)]) == 0
    assert (shop / "app.py").read_text() == "from flask import Flask\n\napp = Flask(__name__)\n\napp.debug = True\n"


def test_formatters_and_import_sorting_leave_what_is_written_as_it_is(tmp_path: Path) -> None:
    kinds = {
        "flask": {"app.py": FLASK},
        "django": DJANGO,
        "litestar": {
            "app.py": "from litestar import Litestar\n\n\ndef make():\n    app = Litestar([])\n    return app\n"
        },
    }
    for name, files in kinds.items():
        root = project(tmp_path / name, files)
        assert run(["install", str(root)]) == 0
        before = tree(root)
        ruff = [sys.executable, "-m", "ruff"]
        options = ["--isolated", "--no-cache", str(root)]
        subprocess.run([*ruff, "check", "--select", "I", "--fix", "-q", *options], check=True)
        subprocess.run([*ruff, "format", "-q", *options], check=True)
        pieces = {path: raw for path, raw in before.items() if raw and b"mailglass" in raw}
        assert {path: (root / path).read_bytes().count(b"# mailglass: ") for path in pieces} == {
            path: raw.count(b"# mailglass: ") for path, raw in pieces.items()
        }
        assert run(["install", str(root)]) == 0
        assert run(["uninstall", str(root)]) == 0


def test_first_files_that_are_there_stay_as_they_are(shop: Path) -> None:
    for name in ("mailglass.toml", "mails.py"):
        (shop / name).write_text("# mine\n")
    (shop / ".env.example").write_text("MAILGLASS_DATABASE_URL=postgresql:///shop\n")
    assert run(["install", str(shop)]) == 0
    assert (shop / "mailglass.toml").read_text() == (shop / "mails.py").read_text() == "# mine\n"
    assert (shop / ".env.example").read_text() == "MAILGLASS_DATABASE_URL=postgresql:///shop\n"
    assert not (shop / "templates").exists()


def test_edited_first_files_are_kept_by_a_second_installation_and_by_uninstall(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["install", str(shop)])
    with (shop / "mailglass.toml").open("a") as settings:
        settings.write("# mine\n")
    assert run(["install", str(shop)]) == 0
    capsys.readouterr()
    assert run(["uninstall", str(shop)]) == 1
    assert "[keep] mailglass.toml: was edited" in capsys.readouterr().out
    assert sorted(tree(shop)) == ["app.py", "mailglass.toml"]


def test_a_first_mail_that_is_used_is_kept_with_its_template(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["install", str(shop)])
    (shop / "views.py").write_text("from mails import Welcome\n")
    capsys.readouterr()
    assert run(["uninstall", str(shop)]) == 1
    assert "[keep] mails.py: seems to be imported by views.py" in capsys.readouterr().out
    assert {"mails.py", "templates/mails/welcome.html"} < tree(shop).keys()
    (shop / "views.py").unlink()
    (shop / "mails.py").write_text((shop / "mails.py").read_text() + "# mine\n")
    assert run(["uninstall", str(shop)]) == 1
    assert {"mails.py", "templates/mails/welcome.html"} < tree(shop).keys()


def test_a_package_of_the_first_mails_name_gets_no_module_beside_it(shop: Path) -> None:
    (shop / "mails").mkdir()
    assert run(["install", str(shop)]) == 0
    assert not (shop / "mails.py").exists()
    assert not (shop / "templates").exists()


def test_an_edited_block_of_the_environment_is_kept(shop: Path) -> None:
    (shop / ".env.example").write_text("A=1\n")
    run(["install", str(shop)])
    text = (shop / ".env.example").read_text()
    assert text.startswith("A=1\n# mailglass: begin env ")
    (shop / ".env.example").write_text(text.replace("localhost", "db.internal"))
    assert run(["install", str(shop)]) == 1
    assert (shop / ".env.example.mailglass_conflict").exists()


def test_directories_that_were_there_stay_when_they_are_left_empty(shop: Path) -> None:
    (shop / "templates").mkdir()
    run(["install", str(shop)])
    run(["uninstall", str(shop)])
    assert sorted(tree(shop)) == ["app.py", "templates"]


def test_names_that_are_taken_get_another_name(tmp_path: Path) -> None:
    source = "from flask import Flask\n\nclass Mailglass:\n    pass\n\napp = Flask(__name__)\n"
    root = project(tmp_path, {"app.py": source})
    assert run(["install", str(root)]) == 0
    text = (root / "app.py").read_text()
    assert "import Mailglass as _Mailglass  #" in text
    assert "\n_Mailglass(app)\n" in text


@pytest.mark.parametrize("source", [FLASK, "def make():\n    from flask import Flask\n    app = Flask('shop')\n"])
def test_an_import_that_is_used_elsewhere_keeps_the_file_from_being_uninstalled(shop: Path, source: str) -> None:
    (shop / "app.py").write_text(source)
    run(["install", str(shop)])
    with (shop / "app.py").open("a") as file:
        file.write("    other = Mailglass()\n" if "def" in source else "other = Mailglass()\n")
    before = (shop / "app.py").read_bytes()
    assert run(["uninstall", str(shop)]) == 1
    assert (shop / "app.py").read_bytes() == before


BY_HAND = {
    "two applications": ({"a.py": FLASK, "b.py": FLASK}, "2 flask applications are made", "Mailglass(app)"),
    "an application that is returned": (
        {"app.py": "from flask import Flask\ndef create_app():\n    return Flask(__name__)\n"},
        "not made by a statement",
        "Mailglass(app)",
    ),
    "a line with two statements": (
        {"app.py": "from fastapi import FastAPI\napp = FastAPI(); x = 1\n"},
        "not made by a statement",
        'app.mount("/mailglass", mailglass_webhooks)',
    ),
    "a body behind a colon": (
        {"app.py": "from litestar import Litestar\nif True: app = Litestar([])\n"},
        "not made by a statement",
        "is_mount=True",
    ),
    "an extension without its application": (
        {"app.py": f"{FLASK}from mailglass.integrations.flask import Mailglass\nmail = Mailglass()\n"},
        "never given an application",
        "mail.init_app(app)",
    ),
    "two settings": (
        {**DJANGO, "other/settings.py": "INSTALLED_APPS = []\n"},
        "several modules assign INSTALLED_APPS",
        "INSTALLED_APPS +=",
    ),
    "URLs that are elsewhere": (
        {**DJANGO, "shop/settings.py": "ROOT_URLCONF = name()\nINSTALLED_APPS = []\n"},
        "ROOT_URLCONF names no module",
        "include(",
    ),
    "URLs that are made elsewhere": (
        {**DJANGO, "shop/urls.py": "from shop.api import urlpatterns\n"},
        "urlpatterns is not assigned",
        "include(",
    ),
    "two frameworks": ({"a.py": FLASK, **DJANGO}, "name one with --framework", ""),
    "no application": ({"tool.py": ""}, "no application of Django", ""),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_place_that_is_not_certain_is_left_to_a_person_and_nothing_is_written(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files, reason, line = BY_HAND[name]
    root = project(tmp_path, files)
    before = tree(root)
    assert run(["install", str(root)]) == 2
    printed = capsys.readouterr().err
    assert reason in printed
    assert line in printed
    assert tree(root) == before


def test_a_framework_that_is_named_is_wired_beside_another(tmp_path: Path) -> None:
    root = project(tmp_path, {"a.py": FLASK, **DJANGO})
    assert run(["install", str(root), "--framework", "flask"]) == 0
    assert "Mailglass(app)" in (root / "a.py").read_text()
    assert (root / "shop/urls.py").read_text() == DJANGO["shop/urls.py"]


def test_settings_that_add_to_those_of_another_module_are_left_alone(tmp_path: Path) -> None:
    files = {**DJANGO, "shop/local.py": "from shop.settings import *\nINSTALLED_APPS = [*INSTALLED_APPS, 'toolbar']\n"}
    root = project(tmp_path, files)
    assert run(["install", str(root)]) == 0
    assert diagnose(root).exit_code == 0
    assert (root / "shop/local.py").read_text() == files["shop/local.py"]


def test_django_settings_of_mailglass_take_the_place_of_its_file(tmp_path: Path) -> None:
    root = project(tmp_path, {**DJANGO, "shop/settings.py": DJANGO["shop/settings.py"] + "MAILGLASS = {}\n"})
    assert run(["install", str(root)]) == 0
    assert not (root / "mailglass.toml").exists()
    assert (root / "shop/mails.py").exists()


def test_settings_and_urls_in_one_file_get_both_blocks(tmp_path: Path) -> None:
    source = "from django.urls import path\nINSTALLED_APPS = []\nROOT_URLCONF = 'shop'\nurlpatterns = []\n"
    root = project(tmp_path, {"shop.py": source})
    assert run(["install", str(root)]) == 0
    before = tree(root)
    assert run(["install", str(root)]) == 0
    assert tree(root) == before
    assert diagnose(root).exit_code == 0
    assert run(["uninstall", str(root)]) == 0
    assert tree(root) == {"shop.py": source.encode()}


def test_an_application_that_was_wired_by_hand_gets_its_first_files_only(tmp_path: Path) -> None:
    source = "from flask import Flask\nfrom mailglass.integrations.flask import Mailglass\nMailglass(Flask('a'))\n"
    root = project(tmp_path, {"app.py": source})
    assert run(["install", str(root)]) == 0
    assert (root / "app.py").read_text() == source
    assert (root / "mailglass.toml").exists()


def test_a_symbolic_link_is_refused(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "app.py").rename(shop.parent / "real.py")
    (shop / "app.py").symlink_to(shop.parent / "real.py")
    assert "app.py: it is a symbolic link" in refused(shop, capsys)


def test_a_directory_that_is_a_symbolic_link_is_refused(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop.parent / "elsewhere").mkdir()
    (shop / "templates").symlink_to(shop.parent / "elsewhere")
    assert "templates/mails/welcome.html: a directory of its path is a symbolic link" in refused(shop, capsys)
    assert list((shop.parent / "elsewhere").iterdir()) == []


def test_a_read_only_file_is_refused(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "app.py").chmod(0o444)
    assert "app.py: it is read-only. Make it writable (chmod u+w)" in refused(shop, capsys)


def test_a_read_only_directory_is_refused(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shop.chmod(0o555)
    try:
        assert "its directory is read-only" in refused(shop, capsys)
    finally:
        shop.chmod(0o755)


def test_a_file_with_two_names_is_refused(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.link(shop / "app.py", shop.parent / "other.py")
    assert "app.py: it has another name" in refused(shop, capsys)


def test_a_pipe_is_neither_waited_for_nor_replaced(shop: Path) -> None:
    for name in ("pipe.py", ".env.example", "mails.py"):
        os.mkfifo(shop / name)
    assert run(["install", str(shop)]) == 0
    assert run(["uninstall", str(shop)]) == 0
    assert sorted(path.name for path in shop.iterdir()) == [".env.example", "app.py", "mails.py", "pipe.py"]


def test_a_file_in_the_way_of_a_directory_is_refused(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "templates").write_text("")
    assert "a part of its path is no directory" in refused(shop, capsys)


def test_a_file_that_cannot_be_parsed_is_refused_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = project(tmp_path, {"app.py": "from flask import Flask\napp = Flask(\n"})
    assert "app.py: it cannot be parsed (line 2), and may hold the application" in refused(root, capsys)


def test_a_file_that_cannot_be_read_is_refused_and_kept_by_uninstall(
    shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (shop / "mails.py").write_text("")
    opened = Path.open

    def refuse(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == "mails.py":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    assert run(["install", str(shop)]) == 1
    assert "mails.py: it cannot be read (Permission denied)" in capsys.readouterr().err
    assert run(["uninstall", str(shop)]) == 1
    assert "mails.py: may hold blocks of mailglass, and it cannot be read" in capsys.readouterr().out


def test_a_first_file_that_is_too_large_is_refused(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / ".env.example").write_bytes(b"#" * (1 << 21))
    assert ".env.example: it is larger than" in refused(shop, capsys)


def test_a_file_in_no_encoding_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "app.py").write_bytes(b"# -*- coding: utf-7 -*-\n" + FLASK.encode() + b"# +AGEAYg- \n")
    assert "app.py: it is no text in its own encoding" in refused(tmp_path, capsys)


def test_mode_of_a_changed_file_stays_and_new_ones_follow_the_umask(shop: Path) -> None:
    (shop / "app.py").chmod(0o751)
    assert run(["install", str(shop)]) == 0
    assert stat.S_IMODE((shop / "app.py").stat().st_mode) == 0o751
    (shop / "plain").touch()
    assert (shop / "mailglass.toml").stat().st_mode == (shop / "plain").stat().st_mode


def test_a_dry_run_prints_a_diff_that_patch_applies_and_changes_nothing(
    shop: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    (shop / "app.py").write_bytes(FLASK.replace("\n", "\r\n").encode().rstrip())
    before = tree(shop)
    assert run(["install", str(shop), "--dry-run"]) == 0
    diff = capfdbinary.readouterr().out
    assert tree(shop) == before
    assert run(["install", str(shop)]) == 0
    wanted = tree(shop)
    assert run(["uninstall", str(shop)]) == 0
    subprocess.run(["git", "apply", "-"], input=diff, cwd=shop, check=True)
    assert tree(shop) == wanted


def test_output_for_programs_keeps_to_its_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    wired = project(tmp_path / "wired", DJANGO)
    unclear = project(tmp_path / "unclear", BY_HAND["two applications"][0])
    commands = [["install", "--dry-run", str(wired)], ["install", str(wired)], ["install", str(unclear)]]
    for arguments in [*commands, ["uninstall", str(wired)]]:
        capsys.readouterr()
        code = run([*arguments, "--format", "json"])
        printed = json.loads(capsys.readouterr().out)
        jsonschema.validate(printed, schema)
        assert printed["exit_code"] == code
        assert printed["dry_run"] == ("--dry-run" in arguments)
        assert bool(printed["by_hand"]) == (code == 2)


def test_wrong_usage_exits_with_64(tmp_path: Path) -> None:
    assert run(["install", "--framework", "bottle"]) == 64
    assert run(["install", str(tmp_path / "nowhere")]) == 64
    assert run(["uninstall", "--nonsense"]) == 64


def test_without_libcst_the_extra_is_named_and_uninstall_works(shop: Path) -> None:
    run(["install", str(shop)])
    code = "import sys\nsys.modules['libcst'] = None\nfrom mailglass.cli import run\nsys.exit(run(sys.argv[1:]))"
    command = [sys.executable, "-c", code]
    done = subprocess.run([*command, "install", str(shop)], capture_output=True, text=True)
    assert (done.returncode, 'pip install "mailglass[install]"' in done.stderr) == (1, True), done.stderr
    done = subprocess.run([*command, "uninstall", str(shop)], capture_output=True, text=True)
    assert (done.returncode, sorted(tree(shop))) == (0, ["app.py"]), done.stderr
