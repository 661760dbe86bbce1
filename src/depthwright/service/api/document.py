"""The OpenAPI document: what the framework writes, less what this API never does."""

from typing import Any

from fastapi import FastAPI

_NEVER = "422"


def install(app: FastAPI) -> None:
    """Have the application tell this document."""
    written = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            written()
            assert app.openapi_schema is not None
            _correct(app.openapi_schema)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _correct(document: dict[str, Any]) -> None:
    # What does not fit is a 400 here, in the envelope.
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop(_NEVER, None)
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
