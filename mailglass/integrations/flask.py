"""mailglass in a Flask application: the webhook endpoint and the command line.

    from flask import Flask
    from mailglass.integrations.flask import Mailglass

    app = Flask(__name__)
    Mailglass(app)

Needs the extra `flask`: `pip install "mailglass[flask]"`.
"""

from __future__ import annotations

import sys
from typing import Any, cast

import click
import flask
from flask import Blueprint, Flask, request

from mailglass.integrations.webhooks import post

DEFAULT_PREFIX = "/mailglass"


class Mailglass:
    """Flask extension: `POST {url_prefix}/webhooks/[TENANT/]ACCOUNT`, and `flask mailglass ...`.

    Mails are sent by `mailglass.deliver_later` and its siblings, which need no extension. To record a mail in the
    transaction of Flask-SQLAlchemy, pass its session: `deliver_later.delay(message, session=db.session())`.

    Args:
        app: the application, or None to call `init_app` later.
        url_prefix: the path that the endpoint is mounted at.
    """

    def __init__(self, app: Flask | None = None, *, url_prefix: str = DEFAULT_PREFIX) -> None:
        self.url_prefix = url_prefix
        self.blueprint = Blueprint("mailglass", __name__)
        self.blueprint.add_url_rule("/webhooks/<account>", "webhook", _webhook, methods=["POST"])
        self.blueprint.add_url_rule("/webhooks/<tenant>/<account>", "tenant_webhook", _webhook, methods=["POST"])
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Mount the endpoint in an application and add `flask mailglass`.

        Flask-WTF's `CSRFProtect` must exempt `blueprint`. `mailglass doctor` tells if it does not.
        """
        app.extensions["mailglass"] = self
        app.register_blueprint(self.blueprint, url_prefix=self.url_prefix)
        app.cli.add_command(_command)


@click.command(
    "mailglass",
    short_help="Run a command of mailglass.",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def _command(arguments: tuple[str, ...]) -> None:
    """Hand a command line on as it is: mailglass reports its errors itself, and its exit codes are the same here."""
    from mailglass.cli import run

    sys.exit(run(arguments, "flask mailglass"))


def _webhook(account: str, tenant: str | None = None) -> flask.Response:
    # the raw stream: neither a form nor JSON is parsed, and nothing is kept
    stream: Any = request.stream
    answer = post(account, tenant, request.environ, lambda size: cast(bytes, stream.read(size)))
    response = flask.Response(answer.body, answer.status)
    response.headers.clear()
    for name, value in answer.headers:
        response.headers[name] = value
    response.headers["content-length"] = str(len(answer.body))
    return response
