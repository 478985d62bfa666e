"""mailglass in a FastAPI application: a dependency that sends within the request's session and tenant.

    from fastapi import Depends, FastAPI
    import mailglass.web
    from mailglass.integrations.fastapi import Mailer, mailer

    app = FastAPI(lifespan=mailglass.web.app.lifespan)
    app.mount("/mailglass", mailglass.web.app)

    @app.post("/orders")
    async def order(mail: Annotated[Mailer, Depends(mailer(get_session))]) -> None:
        await mail.adelay(Message(to="ada@example.com", subject="Receipt 1001", text="Thank you."))

Needs the extra `fastapi`: `pip install "mailglass[fastapi]"`.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends

from mailglass.integrations.mailer import Mailer

__all__ = ["Mailer", "mailer"]


def mailer(session: Callable[..., Any], tenant: Callable[..., Any] | None = None) -> Callable[..., Awaitable[Mailer]]:
    """Return a dependency: a `Mailer` in the session and for the tenant of a request.

    FastAPI calls a dependency once in a request, so the session is that of your endpoint. The mail commits with it.

    Args:
        session: your dependency that gives the request's AsyncSession.
        tenant: your dependency that gives the request's tenant as a str; left out, the tenant in scope counts.

    Returns:
        The dependency, for `Depends`.
    """
    if tenant is None:

        async def get_mailer(session: Annotated[Any, Depends(session)]) -> Mailer:
            return Mailer(session)

        return get_mailer

    async def get_mailer_of_tenant(
        session: Annotated[Any, Depends(session)], tenant: Annotated[str, Depends(tenant)]
    ) -> Mailer:
        return Mailer(session, tenant)

    return get_mailer_of_tenant
