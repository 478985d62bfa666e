"""`mailglass web`: serve webhooks over HTTP."""

from __future__ import annotations

import click
import uvicorn

from mailglass import telemetry
from mailglass.cli.output import note
from mailglass.ledger import schema
from mailglass.ledger.pooler import check_session
from mailglass.runtime import close_runtime, get_runtime
from mailglass.settings import get_settings
from mailglass.web import create_app
from mailglass.web.protocol import bounded_protocol

# what is under way when the process is told to stop has this long; seconds
GRACE = 10
# proxies keep idle connections for a minute: one that we close first may just be carrying the next webhook; seconds
KEEP_ALIVE = 75


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8025, show_default=True, type=click.IntRange(0, 65535), help="0: any free one.")
def web(host: str, port: int) -> int:
    """Serve webhooks at POST /webhooks/[TENANT/]ACCOUNT, liveness at /healthz, readiness at /readyz.

    Speaks plain HTTP: put a proxy with TLS in front. Refuses to start on wrong settings or on a ledger whose schema
    this version does not know.
    """
    settings = get_settings()
    telemetry.configure_logging(settings.log_level, settings.log_format)
    schema.check(settings.require_database())
    check_session(get_runtime().database, settings.pooled)
    get_runtime().accounts.check()
    if not settings.broker_url.reveal():
        note("No MAILGLASS_BROKER_URL: webhooks are kept, and processed when a worker's pump next looks.")
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(),
            host=host,
            port=port,
            lifespan="on",
            ws="none",
            http=bounded_protocol(),
            # logging is configured; an access log would show query strings, which may hold credentials
            log_config=None,
            access_log=False,
            server_header=False,
            # whoever connects is the peer: nothing a client writes about itself is believed
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=GRACE,
        )
    )
    try:
        server.run()
    finally:
        close_runtime()
    return 0 if server.started else 1
