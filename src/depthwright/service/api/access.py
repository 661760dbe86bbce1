"""Who calls, at which address: what every endpoint depends on."""

from typing import Annotated

from fastapi import Depends, Request

from depthwright.service.api.answers import Dialect
from depthwright.service.api.errors import Unauthorized
from depthwright.service.api.operations import Call, Operations

_SCHEME = "bearer "


async def operations(request: Request) -> Operations:
    """The operations of this application."""
    found: Operations = request.app.state.operations
    return found


Ops = Annotated[Operations, Depends(operations)]


async def base_url(request: Request) -> str:
    """This server's address as its clients know it, without a slash at the end."""
    ops: Operations = request.app.state.operations
    return (ops.settings.public_url or str(request.base_url)).rstrip("/")


Base = Annotated[str, Depends(base_url)]


async def called(request: Request) -> Call:
    """The caller, by the key. Raises Unauthorized.

    One dependency that does all of it, on the event loop: the key's row is read in a tenth of a millisecond, while
    every further dependency, and a thread to wait for, costs several.
    """
    ops: Operations = request.app.state.operations
    told = request.headers.get("authorization", "")
    is_bearer = told[: len(_SCHEME)].lower() == _SCHEME
    caller = ops.keys.caller(told[len(_SCHEME) :].strip()) if is_bearer else None
    if caller is None:
        raise Unauthorized(
            "There is no valid key in the request: send the header `Authorization: Bearer KEY`; "
            "the server's operator makes keys with `depthwright keys create`."
        )
    dialect: Dialect = "v2" if request.url.path.startswith("/api/v2/") else "v3"
    return Call(ops, caller, dialect, await base_url(request))


Called = Annotated[Call, Depends(called)]
