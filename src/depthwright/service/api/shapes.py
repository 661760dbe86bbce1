"""The shapes of answers, as the OpenAPI document tells them and the tests hold every answer to."""

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

from depthwright.events import Stage
from depthwright.parameters import Level

_Data = TypeVar("_Data")


class Urls(BaseModel):
    """Where things about a prediction are."""

    get: str = Field(description="The prediction and its result.")
    cancel: str = Field(description="POST here to cancel it.")
    events: str = Field(description="Its progress as server-sent events.")
    webhooks: str = Field(description="How its webhooks went.")


class Progress(BaseModel):
    """How far a prediction is; what is not known yet is absent. Counts begin at 1."""

    queue_position: int = Field(ge=0, description="1 is next; 0 when it no longer waits.")
    stage: Stage = Field(default="depth", description="What the model is doing.")
    image: int = Field(default=1, description="The picture it is at.")
    num_images: int = Field(default=1, description="Of how many.")
    step: int = Field(default=1, description="The step it is at.")
    steps: int = Field(default=1, description="Of how many.")


class Depth(BaseModel):
    """How closely a picture keeps to the depth map."""

    rmse: float = Field(
        description="Depth estimated on the picture against the depth map, on 0-255; lower is better."
    )
    residual_correlation: float | None = Field(
        description="The same after each row's mean is taken away; 1 is best."
    )


class Accelerated(BaseModel):
    """What made it fast."""

    level: Level = Field(description="The level that ran.")
    techniques: list[str] = Field(description="What that level does on this server's hardware.")
    steps_forecast: int = Field(description="How many denoising steps of all pictures were forecast.")


class UsedLora(BaseModel):
    """A LoRA of a request that acted."""

    name: str = Field(description="The file's name.")
    digest: str = Field(description="The file's SHA-256.")
    scale: float = Field(description="How strongly it acted.")


class Safety(BaseModel):
    """Who looked at the prompt and the pictures."""

    image_checker: str | None = Field(
        description="The model that looked at the pictures; `none` where there is none, `off by request`, `off by the "
        "operator`; null until it is completed."
    )
    prompt_policy: str | None = Field(description="The version of the policy that the prompt was judged by.")
    refused: str | None = Field(description="The category that it was refused for; null if it was not.")


class ListedPrediction(BaseModel):
    """A prediction in a list, which has its `input` where that was asked for."""

    id: str
    model: str
    outputs: list[str] = Field(description="URLs of the pictures (or base64); empty until it is completed.")
    urls: Urls
    has_nsfw_contents: list[bool] = Field(description="One flag a picture; empty where nothing was checked.")
    status: Literal["created", "processing", "completed", "failed"]
    cancelled: bool = Field(description="Whether it failed because it was cancelled.")
    created_at: str = Field(
        description="When it was submitted.",
        json_schema_extra={"format": "date-time", "examples": ["2023-04-01T12:34:56.789Z"]},
    )
    error: str = Field(description="Why it failed; empty if it did not.")
    code: int = Field(description="The same for programs; 0 if it did not fail.")
    executionTime: int = Field(description="Milliseconds that the model worked.")  # noqa: N815 - the contract's name
    timings: dict[str, int] = Field(
        description="Milliseconds by stage; `inference` is the model's in all.",
        json_schema_extra={"required": ["inference"]},
    )
    seed: int = Field(description="The seed of the first picture; picture i has seed + i.")
    control: str | None = Field(description="URL of the depth map that was followed.")
    fidelity: list[Depth] = Field(description="One measurement a picture.")
    progress: Progress
    warnings: list[str]
    model_version: str = Field(description="The weights that made it; empty until it is completed.")
    acceleration: Accelerated | None = Field(description="How it was made; null until it is completed.")
    loras: list[UsedLora] = Field(description="The LoRAs that acted, after the depth LoRA, in this order.")
    safety: Safety


class PredictionAnswer(ListedPrediction):
    """A prediction."""

    input: dict[str, Any] = Field(description="The request as it was understood, defaults included.")


class Page(BaseModel):
    """One page of a key's predictions, newest first."""

    page: int
    total: int = Field(description="How many there are on all pages.")
    items: list[ListedPrediction]


class Deleted(BaseModel):
    """What a deletion did."""

    deleted_count: int


class Try(BaseModel):
    """One try to deliver a webhook."""

    at: float = Field(description="Seconds since 1970.")
    answer: int | None = Field(description="The receiver's status; null if it gave none.")
    error: str


class DeliveryLog(BaseModel):
    """A webhook and how each try went."""

    id: str = Field(description="The same at every try, in the header `webhook-id`.")
    url: str
    state: Literal["pending", "delivered", "given_up"]
    tries: int
    next_at: float = Field(description="When it is tried next, while it is pending; seconds since 1970.")
    log: list[Try]


class Uploaded(BaseModel):
    """A picture that was uploaded."""

    type: Literal["image"]
    download_url: str = Field(description="What to send as `control_image`.")
    filename: str
    size: int = Field(description="In bytes.")


class Put(BaseModel):
    """How to send the file that a ticket is for."""

    method: Literal["PUT"]
    url: str = Field(description="Takes one file, without a key, within the hour.")
    headers: dict[str, str]


class Ticket(Uploaded):
    """A place for a picture, and how to send it there."""

    upload: Put


class Redeemed(BaseModel):
    """A picture that came by ticket."""

    download_url: str = Field(description="What to send as `control_image`.")
    size: int = Field(description="In bytes.")


class RequestSchema(BaseModel):
    """A model's request, for programs that build forms from it."""

    type: Literal["object"]
    properties: dict[str, Any]
    required: list[str]
    order: list[str] = Field(alias="x-order-properties")


class Endpoint(BaseModel):
    """One way to call a model."""

    type: Literal["model_run"]
    method: Literal["POST"]
    api_path: str
    request_schema: RequestSchema


class ApiSchema(BaseModel):
    """How a model is called."""

    api_schemas: list[Endpoint]


class Model(BaseModel):
    """A model that this server runs."""

    model_id: str
    name: str
    description: str
    type: Literal["image-to-image"]
    base_price: float
    formula: str
    api_schema: ApiSchema


class Balance(BaseModel):
    """What is left to spend."""

    balance: float


class Price(BaseModel):
    """What a request costs."""

    model_id: str
    unit_price: float
    price: float
    discount_rate: float


class Secret(BaseModel):
    """What webhooks are signed with."""

    secret: str = Field(pattern="^whsec_")


class Alive(BaseModel):
    """The server answers."""

    live: Literal[True]


class Ready(BaseModel):
    """The server makes pictures."""

    ready: Literal[True]
    workers: int = Field(ge=1, description="How many workers live and have made a picture.")
    image_checker: list[str] = Field(
        description="Who looks at their pictures: a model's name, `none`, or `off by the operator`."
    )


class Envelope(BaseModel, Generic[_Data]):
    """What every success comes in."""

    code: Literal[200]
    message: Literal["success"]
    data: _Data


class ErrorAnswer(BaseModel):
    """Every answer that is an error."""

    code: int = Field(description="The HTTP status.", examples=[400])
    message: str = Field(
        description="What was wrong, what is allowed, what to do.",
        examples=["num_images is 9: it must be a whole number from 1 to 4."],
    )
