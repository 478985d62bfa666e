"""The webhook endpoint for frameworks that give a request as CGI variables: Flask, Django, plain WSGI."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from mailglass import telemetry
from mailglass.errors import ConfigError
from mailglass.providers.base import WebhookRequest
from mailglass.runtime import get_runtime
from mailglass.webhooks import ingress
from mailglass.webhooks.ingress import TOO_LARGE, IncomingWebhook, Response

# digits of a length that can be read
_DIGITS = 15
_BAD_REQUEST = Response(400)


def post(account: str, tenant: str | None, environ: Mapping[str, Any], read: Callable[[int], bytes]) -> Response:
    """Verify and store one posted webhook.

    The length is bounded before anything is read, and the account is known before the body is.

    Args:
        account: the account in the URL.
        tenant: the tenant in the URL, or None.
        environ: the request as CGI variables (PEP 3333), as `request.environ` or Django's `request.META` has them.
        read: returns at most so many bytes of the raw body, and b"" at its end.

    Returns:
        The response, as `mailglass.webhooks.ingress.handle_all` describes it.
    """
    try:
        runtime = get_runtime()
        _ = runtime.database
    except ConfigError as error:
        telemetry.emit("mailglass.webhook.misconfigured", level=logging.ERROR, status=500, reason=error.key)
        return ingress.MISCONFIGURED
    refused = ingress.refuse_unknown(account, runtime.accounts)
    if refused is not None:
        return refused
    body = _body(environ, read, runtime.settings.webhooks.max_body)
    if isinstance(body, Response):
        telemetry.emit("mailglass.webhook.refused", level=logging.WARNING, account=account, status=body.status)
        return body
    request = WebhookRequest(_headers(environ), body, _url(environ), str(environ.get("REMOTE_ADDR") or ""))
    (response,) = ingress.handle_all([IncomingWebhook(account, request, tenant)], runtime.ingress_context())
    return response


def _body(environ: Mapping[str, Any], read: Callable[[int], bytes], limit: int) -> bytes | Response:
    announced = str(environ.get("CONTENT_LENGTH") or "")
    if announced:
        if not (announced.isascii() and announced.isdigit()):
            return _BAD_REQUEST
        if len(announced) > _DIGITS or int(announced) > limit:
            return TOO_LARGE
    chunks: list[bytes] = []
    size = 0
    while chunk := read(min(1 << 16, limit + 1 - size)):
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            return TOO_LARGE
    return b"".join(chunks)


def _headers(environ: Mapping[str, Any]) -> dict[str, str]:
    headers = {
        name[5:].replace("_", "-").lower(): value
        for name, value in environ.items()
        if name.startswith("HTTP_") and isinstance(value, str)
    }
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if value := environ.get(name):
            headers[name.replace("_", "-").lower()] = str(value)
    return headers


def _url(environ: Mapping[str, Any]) -> str:
    host = environ.get("HTTP_HOST")
    if not host:
        return ""
    target = str(environ.get("RAW_URI") or environ.get("REQUEST_URI") or "")
    if not target.startswith("/"):
        path = f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}"
        query = environ.get("QUERY_STRING")
        # PEP 3333: the server has decoded the path to latin-1
        target = quote(path.encode("latin-1", "replace"), safe="/:@!$&'()*+,;=~-._") + (f"?{query}" if query else "")
    return f"{environ.get('wsgi.url_scheme', 'http')}://{host}{target}"
