"""Generated sources of applications, in the styles that people write them in."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn


@dataclass(frozen=True)
class Application:
    """Files of one application.

    Attributes:
        framework: its name.
        files: bytes by path.
        module: the file that makes the application, or holds its URLs.
    """

    framework: str
    files: dict[str, bytes]
    module: str


HEADS = ["", "#!/usr/bin/env python\n", '"""Shop.\n\nIt sells things.\n"""\n', "from __future__ import annotations\n"]
COOKIES = {"utf-8": "", "latin-1": "# -*- coding: latin-1 -*-\n", "cp1252": "# vim: set fileencoding=cp1252 :\n"}
NOISE = [
    "",
    "\n",
    "# caf\xe9   \n",
    "LIMIT = 10   \n",
    "\x0c\nWIDE = '''\n  # mailglass: begin mount 00000000\n'''\n",
    "def helper(value):\n\tif value:\n\t\treturn value  # tab\n\n\n",
    "try:\n    import json\nexcept ImportError:\n    json = None\n",
    "NAMES = [\n  'a', # first\n\n  'b'\n  ]\n",
    "if True: pass\n",
    "class Shop:\n    app = None\n",
    "TEXT = 'one \\\ntwo'\n",
]
FLASK_IMPORTS = [
    ("from flask import Flask", "Flask"),
    ("from flask import (\n    Flask,\n    request,  # of each call\n)", "Flask"),
    ("from flask import Flask as F; import os", "F"),
    ("import flask", "flask.Flask"),
    ("import os, flask as f  # two", "f.Flask"),
]
FLASK_ARGUMENTS = ["__name__", "__name__,  # here\n    static_folder=None,\n", "\n  'shop'\n"]
ASGI_IMPORTS = {
    "fastapi": [("from fastapi import FastAPI, Request", "FastAPI"), ("import fastapi", "fastapi.FastAPI")],
    "starlette": [
        ("from starlette.applications import Starlette", "Starlette"),
        ("from starlette.applications import Starlette as App\nfrom starlette.routing import Mount, Route", "App"),
    ],
    "litestar": [("from litestar import Litestar", "Litestar"), ("import litestar", "litestar.Litestar")],
}
ASGI_ARGUMENTS = {
    "fastapi": ["", "title='Shop',  # shown\n    docs_url=None,\n", "**{'debug': True}"],
    "starlette": ["", "debug=False, routes=[]", "routes=[\n      ], # none\n", "False, []"],
    "litestar": ["[]", "route_handlers=[], debug=True", "\n[\n]\n,\n"],
}
TARGETS = ["app", "application", "app: object", "app = application", "shop_app"]
APPS = [
    "INSTALLED_APPS = [\n    'django.contrib.auth',\n    'django.contrib.contenttypes',  # kinds\n]\n",
    "INSTALLED_APPS: list[str] = ['django.contrib.auth', 'django.contrib.contenttypes']   # all\n",
    "INSTALLED_APPS = (\n    'django.contrib.auth', 'django.contrib.contenttypes'\n    )\n",
    "BASE = ['django.contrib.auth']\nMORE = ['django.contrib.contenttypes']\nINSTALLED_APPS = BASE + MORE\n",
    "INSTALLED_APPS = []\nINSTALLED_APPS += ['django.contrib.auth']\nINSTALLED_APPS.append('django.contrib.sites')\n",
    "INSTALLED_APPS = ['django.contrib.auth']\nif DEBUG:\n  INSTALLED_APPS += ['django.contrib.sites']\n  # end\n",
    "INSTALLED_APPS = []\nINSTALLED_APPS = tuple(INSTALLED_APPS)\n",
]
URLS = [
    ("from django.urls import path", "path"),
    ("from django.urls import include, path  # both", "path"),
    ("from django.urls import (\n  path as p, re_path\n)", "p"),
    ("import django.urls", "django.urls.path"),
    ("from django.conf.urls import include\nfrom django.urls import path", "path"),
    ("from django.urls import path\ninclude = None", "path"),
    ("from django.urls import *", "path"),
]
PATTERNS = [
    "urlpatterns = []\n",
    "urlpatterns = [\n    PATH('one/', view),\n    PATH('two/', view) # last\n]\n",
    "urlpatterns: list = [PATH('one/', view)];  other = 1\n",
    "urlpatterns = []\nurlpatterns += [PATH('one/', view)]\n\n\n",
    "urlpatterns = []\nif True:\n\turlpatterns.append(PATH('one/', view))\n",
    "urlpatterns = [PATH('', view),]\nurlpatterns.extend(\n  [PATH('one/', view)])\n",
]


@st.composite
def encoded(draw: DrawFn, text: str) -> bytes:
    """Return the bytes of a file: encoding, line endings and end as editors of all systems leave them."""
    encoding = draw(st.sampled_from(sorted(COOKIES)))
    # a cookie counts on the first two lines
    first = text.startswith("#!")
    lines = text.split("\n")[:-1]
    lines[first:first] = COOKIES[encoding].split("\n")[:-1]
    ends = draw(st.sampled_from([["\n"], ["\r\n"], ["\r"], ["\n", "\r\n"]]))
    joined = "".join(f"{line}{ends[number % len(ends)]}" for number, line in enumerate(lines))
    if draw(st.booleans()):
        joined = joined.rstrip("\r\n")
    raw = joined.encode(encoding)
    return b"\xef\xbb\xbf" + raw if encoding == "utf-8" and draw(st.booleans()) else raw


@st.composite
def flask_applications(draw: DrawFn) -> Application:
    """Draw a Flask application."""
    line, name = draw(st.sampled_from(FLASK_IMPORTS))
    text = draw(_modules(line, f"{name}({draw(st.sampled_from(FLASK_ARGUMENTS))})"))
    return Application("flask", {"shop.py": draw(encoded(text))}, "shop.py")


@st.composite
def asgi_applications(draw: DrawFn) -> Application:
    """Draw an application of FastAPI, Starlette or Litestar."""
    framework = draw(st.sampled_from(sorted(ASGI_IMPORTS)))
    line, name = draw(st.sampled_from(ASGI_IMPORTS[framework]))
    text = draw(_modules(line, f"{name}({draw(st.sampled_from(ASGI_ARGUMENTS[framework]))})"))
    return Application(framework, {"main.py": draw(encoded(text)), "README": b"shop"}, "main.py")


@st.composite
def django_projects(draw: DrawFn) -> Application:
    """Draw the settings and the URLs of a Django project."""
    noise = [draw(st.sampled_from(NOISE)) for _ in range(4)]
    head = draw(st.sampled_from(HEADS))
    settings = f"{head}DEBUG = True\n{noise[0]}ROOT_URLCONF = 'urls'\n{draw(st.sampled_from(APPS))}{noise[1]}"
    line, path = draw(st.sampled_from(URLS))
    patterns = draw(st.sampled_from(PATTERNS)).replace("PATH", path)
    urls = f"{head}{line}\nview = print\n{noise[2]}{patterns}{noise[3]}"
    files = {"settings.py": draw(encoded(settings)), "urls.py": draw(encoded(urls))}
    if draw(st.booleans()):
        files[".env.example"] = draw(st.sampled_from([b"A=1\nB=2", b"A=1\r\n", b"", b"\n\n", b"# none\n"]))
    return Application("django", files, "urls.py")


@st.composite
def _modules(draw: DrawFn, import_line: str, call: str) -> str:
    """Draw a module that makes an application at its top level, in a factory, or deeper."""
    target = draw(st.sampled_from(TARGETS))
    name = target.partition(":")[0].partition(" =")[0]
    head, comment = draw(st.sampled_from(HEADS)), draw(st.sampled_from(["", "  # the application", "   "]))
    before, between, after = (draw(st.sampled_from(NOISE)) for _ in range(3))
    form = draw(st.sampled_from(["module", "if", "with", "factory", "tabs", "nested"]))
    imports, made = f"{import_line}\n", f"{target} = {call}{comment}\n"
    if form == "module":
        return f"{head}{imports}{before}{made}{between}{after}"
    indent = "\t" if form == "tabs" else "  " if form == "nested" else "    "
    if form in ("if", "with"):
        opening = "if True:" if form == "if" else "with open(__file__):"
        return f"{head}{imports}{before}{opening}  # on\n{_indented(made, indent)}{between}{after}"
    inside = draw(st.booleans())
    body = f"{imports if inside else ''}{made}size = 1;  size += 1\nreturn {name}\n"
    function = f"def create_app(*names, **options) -> object:\n{_indented(body, indent)}"
    if form == "nested":
        function = (
            f"def create_app():\n{indent}'''Make it.'''\n{_indented(function, indent)}{indent}return create_app()\n"
        )
    return f"{head}{'' if inside else imports}{before}{function}{between}{after}"


def _indented(text: str, indent: str) -> str:
    """Indent the statements of a body. A call that goes over several lines keeps its own lines."""
    lines, depth = [], 0
    for line in text.split("\n")[:-1]:
        lines.append(line if depth else f"{indent}{line}")
        depth += sum(line.count(mark) for mark in "([") - sum(line.count(mark) for mark in ")]")
    return "".join(f"{line}\n" for line in lines)
