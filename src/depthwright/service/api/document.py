"""The OpenAPI document: what the framework writes, less what this API never does."""

from typing import Any

from fastapi import FastAPI

_NEVER = "422"
_KEY = "key"
_WITH_KEY = ("/api/", "/metrics")


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
    for address, path in document["paths"].items():
        for operation in path.values():
            operation["responses"].pop(_NEVER, None)
            if address.startswith(_WITH_KEY):
                operation["security"] = [{_KEY: []}]
    document["components"]["securitySchemes"] = {
        _KEY: {"type": "http", "scheme": "bearer", "description": "A key from `depthwright keys create`."}
    }
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
