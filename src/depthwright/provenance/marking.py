"""A picture becomes a file that says where it comes from."""

import io
import json
from typing import Any

from PIL import Image

from depthwright import __version__
from depthwright.errors import ServiceError
from depthwright.provenance.certificates import Identity
from depthwright.provenance.credentials import RECEIPT_LABEL, context, library
from depthwright.provenance.encoding import OutputFormat, encode
from depthwright.provenance.receipt import Receipt
from depthwright.provenance.xmp import JPEG_MOST, TRAINED_ALGORITHMIC_MEDIA, packet


class Marker:
    """Encodes pictures with content credentials, IPTC's mark and a receipt, in the name of `identity`.

    Prompts go into files only where `keep_prompts` says so. Any number of threads may use one; a process that was
    forked from its maker may not. Raises EngineNotInstalled.
    """

    def __init__(self, identity: Identity, *, keep_prompts: bool = False) -> None:
        self._keep_prompts = keep_prompts
        self._c2pa = library()
        self._context = context()
        self._signer = self._c2pa.Signer.from_info(
            self._c2pa.C2paSignerInfo(identity.algorithm, identity.chain, identity.key, None)
        )

    def encode(self, image: Image.Image, output_format: OutputFormat, receipt: Receipt) -> bytes:
        """The picture's file, complete. Raises ServiceError if it cannot be signed, as after the certificate's end."""
        # 1. What may be told.
        told = receipt if self._keep_prompts else receipt.without_prompt()
        # 2. The pixels, with the packet that any program shows.
        plain = encode(image, output_format, _packet(output_format, told))
        # 3. The credentials, over all of it.
        return self._signed(plain, output_format, told)

    def _signed(self, plain: bytes, output_format: OutputFormat, receipt: Receipt) -> bytes:
        signed = io.BytesIO()
        try:
            with self._c2pa.Builder(_manifest(receipt), context=self._context) as builder:
                builder.sign(self._signer, f"image/{output_format}", io.BytesIO(plain), signed)
        except self._c2pa.C2paError as error:
            raise ServiceError(f"The picture cannot be signed: {error}.") from error
        return signed.getvalue()


def _packet(output_format: OutputFormat, receipt: Receipt) -> bytes:
    whole = packet(receipt.software, receipt.json_text())
    # A JPEG's packet has a limit that a long prompt passes; the credentials, which have none, then keep it alone.
    fits = output_format != "jpeg" or len(whole) <= JPEG_MOST
    return whole if fits else packet(receipt.software, "")


def _manifest(receipt: Receipt) -> dict[str, Any]:
    created = {
        "action": "c2pa.created",
        "digitalSourceType": TRAINED_ALGORITHMIC_MEDIA,
        "softwareAgent": {"name": receipt.profile, "version": receipt.model_version},
    }
    actions = {"actions": [created], "allActionsIncluded": True}
    return {
        "claim_generator_info": [{"name": "depthwright", "version": __version__}],
        # Said by us, who sign, and not gathered from others: hence `created`.
        "assertions": [
            {"label": "c2pa.actions.v2", "data": actions, "created": True},
            {"label": RECEIPT_LABEL, "data": json.loads(receipt.json_text()), "created": True},
        ],
    }
