"""The webhook endpoint: open to everybody, because what is posted proves itself by its signature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from django.contrib.auth.decorators import login_not_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from mailglass.integrations.webhooks import post


@csrf_exempt
@login_not_required
@transaction.non_atomic_requests
@require_POST
def webhook(request: HttpRequest, account: str, tenant: str | None = None) -> HttpResponse:
    """Verify and store a posted webhook.

    Args:
        request: its body has not been read yet, or has been kept by a middleware that read `request.body`.
        account: the account in the URL.
        tenant: the tenant in the URL, or None.
    """
    environ = {**request.META, "wsgi.url_scheme": request.scheme}
    answer = post(account, tenant, environ, _reader(request))
    response = HttpResponse(answer.body, status=answer.status)
    del response["content-type"]
    for name, value in answer.headers:
        response[name] = value
    response["content-length"] = str(len(answer.body))
    return response


def _reader(request: Any) -> Callable[[int], bytes]:
    """Return a function that reads the raw body in pieces.

    `request.body` would read it at once and bound it by DATA_UPLOAD_MAX_MEMORY_SIZE, which is meant for forms. A WSGI
    request that announces no length is empty for Django, so a chunked one is read from the server itself.
    """
    meta = request.META
    if meta.get("wsgi.input_terminated") and not meta.get("CONTENT_LENGTH"):
        return cast(Callable[[int], bytes], meta["wsgi.input"].read)
    return cast(Callable[[int], bytes], request.read)
