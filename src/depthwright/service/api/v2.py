"""The dialect v2: the contract's own, and the oldest clients'."""

from fastapi import APIRouter

from depthwright.parameters import SizeBounds
from depthwright.service.api.predictions import routes


def router(size_bounds: SizeBounds) -> APIRouter:
    """All of v2."""
    api = APIRouter(prefix="/api/v2", tags=["v2"])
    api.include_router(routes(size_bounds))
    return api
