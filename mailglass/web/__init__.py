"""HTTP endpoints as an ASGI application: `uvicorn mailglass.web:app`, or mounted in another application.

>>> from starlette.applications import Starlette
>>> from starlette.routing import Mount
>>> from mailglass.web import create_app
>>> application = Starlette(routes=[Mount("/mail", create_app())])
"""

from __future__ import annotations

from mailglass.web.asgi import WebApp, app, create_app

__all__ = ["WebApp", "app", "create_app"]
