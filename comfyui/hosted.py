"""A client for the hosted API: our own, told to keep to what that API documents."""

from collections.abc import Mapping
from urllib.parse import quote

from pydantic import SecretStr

from depthwright.clients import AsyncClient, Prediction
from depthwright.clients.actions import Plan, Request
from depthwright.clients.exchange import ask, data_of
from depthwright.clients.plans import Api, ControlImage

# Its page's table of request parameters.
DOCUMENTED = (
    "prompt",
    "control_image",
    "control_scale",
    "seed",
    "num_images",
    "size",
    "num_inference_steps",
    "guidance_scale",
    "enable_safety_checker",
)
_MODEL = "wavespeed-ai/flux-control-lora-depth"


class HostedApi(Api):
    """Its addresses, and its fields alone."""

    def submit(
        self,
        fields: Mapping[str, object],
        control_image: ControlImage,
        key: str | None,  # noqa: ARG002 - makes a repetition harmless elsewhere, means nothing there
        until: float,
    ) -> Plan[Prediction]:
        """Sent once, since what was accepted costs money; only an answer that asks to come later is followed."""
        body = {name: value for name, value in fields.items() if name in DOCUMENTED and value is not None}
        if isinstance(control_image, str):
            body["control_image"] = control_image
        request = Request("POST", f"{self.server}/api/v2/{_MODEL}", json=body, until=until)
        return Prediction.read(data_of((yield from ask(request, tries=1))))

    def _of(self, prediction_id: str) -> str:
        return f"{self.server}/api/v2/predictions/{quote(prediction_id, safe='')}/result"


class HostedClient(AsyncClient):
    """AsyncClient for the hosted API: submit, get, upload and pictures; it has no events and cancels nothing."""

    def __init__(self, server: str, key: SecretStr, *, patience: float) -> None:
        super().__init__(server, key, patience=patience)
        self._api = HostedApi(self._api.server, patience)
