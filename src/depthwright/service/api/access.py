"""Who calls, at which address: what every endpoint depends on."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from depthwright.service.api.answers import Dialect
from depthwright.service.api.errors import Unauthorized
from depthwright.service.api.operations import Call, Operations

_BEARER = HTTPBearer(auto_error=False, description="A key from `depthwright keys create`.")


async def operations(request: Request) -> Operations:
    """The operations of this application."""
    found: Operations = request.app.state.operations
    return found


Ops = Annotated[Operations, Depends(operations)]


async def base_url(request: Request, ops: Ops) -> str:
    """This server's address as its clients know it, without a slash at the end."""
    return (ops.settings.public_url or str(request.base_url)).rstrip("/")


Base = Annotated[str, Depends(base_url)]


# The two above are coroutines that wait for nothing: a plain function would be sent to a thread and back.
def called(
    request: Request,
    ops: Ops,
    base: Base,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
) -> Call:
    """The caller, by the key. Raises Unauthorized."""
    caller = ops.keys.caller(credentials.credentials) if credentials else None
    if caller is None:
        raise Unauthorized(
            "There is no valid key in the request: send the header `Authorization: Bearer KEY`; "
            "the server's operator makes keys with `depthwright keys create`."
        )
    dialect: Dialect = "v2" if request.url.path.startswith("/api/v2/") else "v3"
    return Call(caller, dialect, base)


Called = Annotated[Call, Depends(called)]
