"""The dialect v3: what the newer clients speak, with lists, prices, tickets and the webhook secret."""

from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field

from depthwright.parameters import SizeBounds, whole
from depthwright.prediction import Status
from depthwright.request import PredictionRequest
from depthwright.service.api.access import Called
from depthwright.service.api.answers import MODEL, success, upload_url
from depthwright.service.api.errors import told
from depthwright.service.api.predictions import routes
from depthwright.service.api.shapes import (
    Balance,
    Deleted,
    Envelope,
    Model,
    Page,
    Price,
    Secret,
    Ticket,
)
from depthwright.service.api.strict import StrictRoute
from depthwright.service.images import LIMIT_BYTES
from depthwright.service.store import Query

_PAGES_MAX = 1_000_000


def _written(value: Any) -> Any:
    if not isinstance(value, str) or "T" not in value.upper():
        raise ValueError("it must be a time such as 2023-04-01T12:34:56.789Z")
    return value


# The library takes a bare number for a time as well; its unit would be a guess.
Moment = Annotated[AwareDatetime, BeforeValidator(_written)]


class ListRequest(BaseModel):
    """Which predictions to list, newest first."""

    page: Annotated[int, Field(ge=1, le=_PAGES_MAX), BeforeValidator(whole)] = 1
    page_size: Annotated[int, Field(ge=1, le=100), BeforeValidator(whole)] = 20
    model: Annotated[str | None, Field(max_length=120)] = None
    status: Status | None = None
    created_after: Moment | None = None
    created_before: Moment | None = None
    include_inputs: Annotated[bool, Field(strict=True)] = False


class DeleteRequest(BaseModel):
    """Which predictions to delete."""

    ids: list[Annotated[str, Field(max_length=64)]] = Field(min_length=1, max_length=1000)


class TicketRequest(BaseModel):
    """The file that is to be uploaded."""

    filename: Annotated[str, Field(max_length=255)] = ""
    size: Annotated[int, Field(ge=1, le=LIMIT_BYTES), BeforeValidator(whole)]
    content_type: Annotated[str, Field(max_length=80)] = "application/octet-stream"


class PriceRequest(BaseModel):
    """The request whose price is asked for."""

    model_id: Annotated[str, Field(max_length=120)] = MODEL
    inputs: dict[str, Any] = Field(default_factory=dict)


def router(size_bounds: SizeBounds) -> APIRouter:
    """All of v3."""
    api = APIRouter(prefix="/api/v3", tags=["v3"], route_class=StrictRoute)
    api.include_router(routes(size_bounds))

    @api.post(
        "/predictions",
        summary="List predictions",
        responses={200: {"model": Envelope[Page]}, **told(400, 401, 413)},
    )
    def predictions(wanted: ListRequest, call: Called) -> Response:
        """One page of this key's predictions."""
        query = Query(
            page=wanted.page,
            page_size=wanted.page_size,
            model=wanted.model,
            status=wanted.status,
            created_after=wanted.created_after.timestamp() if wanted.created_after else None,
            created_before=wanted.created_before.timestamp() if wanted.created_before else None,
        )
        total, found = call.ops.store.page(call.caller.key_id, query)
        items = [call.ops.described(call, prediction) for prediction in found]
        if not wanted.include_inputs:
            for item in items:
                del item["input"]
        return success({"page": wanted.page, "total": total, "items": items})

    @api.post(
        "/predictions/delete",
        summary="Delete predictions",
        responses={200: {"model": Envelope[Deleted]}, **told(400, 401, 413)},
    )
    def delete(wanted: DeleteRequest, call: Called) -> Response:
        """Removes them and their pictures, whatever their state; ids that are not there are passed over."""
        return success({"deleted_count": call.ops.delete(call, wanted.ids)})

    @api.get("/models", summary="List models", responses={200: {"model": Envelope[list[Model]]}, **told(401)})
    def models(_call: Called) -> Response:
        """The one model there is, with the schema of its request."""
        return success([_model(size_bounds)])

    @api.get(
        "/balance", summary="See the balance", responses={200: {"model": Envelope[Balance]}, **told(401)}
    )
    def balance(_call: Called) -> Response:
        """On a machine of your own nothing is paid for."""
        return success({"balance": 0})

    @api.post(
        "/model/price",
        summary="See a price",
        responses={200: {"model": Envelope[Price]}, **told(400, 401, 413)},
    )
    def price(wanted: PriceRequest, _call: Called) -> Response:
        """Nothing, for the same reason."""
        return success({"model_id": wanted.model_id, "unit_price": 0, "price": 0, "discount_rate": 0})

    @api.get(
        "/webhook/secret",
        summary="See the webhook secret",
        responses={200: {"model": Envelope[Secret]}, **told(401)},
    )
    def secret(call: Called) -> Response:
        """What webhooks of this key's predictions are signed with."""
        return success({"secret": call.caller.webhook_secret})

    @api.post(
        "/media/uploads",
        summary="Get an upload ticket",
        responses={200: {"model": Envelope[Ticket]}, **told(400, 401, 413, 429)},
    )
    def ticket(wanted: TicketRequest, call: Called) -> Response:
        """An address that takes the file once, by PUT and without a key, within the hour."""
        call.ops.limit.spend(call.caller.key_id)
        kept, token = call.ops.uploads.ticket(
            call.caller.key_id, wanted.filename, wanted.content_type, wanted.size
        )
        return success(
            {
                "type": "image",
                "download_url": upload_url(call.base_url, kept.id),
                "filename": kept.filename,
                "size": kept.size,
                "upload": {
                    "method": "PUT",
                    "url": f"{call.base_url}/uploads/ticket/{token}",
                    "headers": {"Content-Type": kept.content_type},
                },
            }
        )

    return api


def _model(size_bounds: SizeBounds) -> dict[str, Any]:
    schema = PredictionRequest.json_schema(size_bounds, nullable=False)
    return {
        "model_id": MODEL,
        "name": MODEL,
        "description": "FLUX with a depth control LoRA: a prompt and a depth map become a picture.",
        "type": "image-to-image",
        "base_price": 0,
        "formula": "0",
        "api_schema": {
            "api_schemas": [
                {
                    "type": "model_run",
                    "method": "POST",
                    "api_path": f"/api/v3/{MODEL}",
                    "request_schema": {
                        "type": "object",
                        "properties": schema["properties"],
                        "required": schema["required"],
                        "x-order-properties": list(schema["properties"]),
                    },
                }
            ]
        },
    }
