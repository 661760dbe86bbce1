"""What a file says of its origin, in sentences, each with its verdict."""

import io
from collections.abc import Iterator
from typing import Literal, NamedTuple

from PIL import Image

from depthwright.errors import echo
from depthwright.parameters import GenerationParameters
from depthwright.provenance.comparing import compare
from depthwright.provenance.credentials import Credentials
from depthwright.provenance.encoding import OutputFormat, encode
from depthwright.provenance.pixels import pixel_hash
from depthwright.provenance.reading import Provenance
from depthwright.provenance.receipt import Receipt
from depthwright.provenance.xmp import TRAINED_ALGORITHMIC_MEDIA

Verdict = Literal["good", "bad", "open"]
_MEANINGS = {
    "assertion.dataHash.mismatch": "the file was changed after it was signed",
    "assertion.hashedURI.mismatch": "a statement in it was changed",
    "claimSignature.mismatch": "the signature is not of these statements",
    "claimSignature.outsideValidity": "the certificate was out of its time",
    "signingCredential.expired": "the certificate is out of its time",
    "signingCredential.invalid": "the certificate may not sign",
    "Remote": "they are kept on another machine, from which nothing is fetched",
}


class Line(NamedTuple):
    """A sentence, and whether it speaks for the file, against it, or is only what somebody says."""

    verdict: Verdict
    text: str


def lines(provenance: Provenance) -> tuple[Line, ...]:
    """All there is to say of a file, the most important first; words of the file itself stand in quotes."""
    found = [*_credentials(provenance.credentials), *_marks(provenance), *_receipt(provenance)]
    return (*found, *(Line("bad", fault) for fault in provenance.faults))


def rerun_line(provenance: Provenance, rendered: Image.Image) -> Line:
    """What it means that rendering the receipt's request again gave this picture.

    It is compared with the receipt by its hash, and with the file after being packed as that was: a lossy format then
    takes the same from both.
    """
    # 1. What the receipt says, and what the file shows.
    receipt, lossless = provenance.receipt, provenance.output_format == "png"
    as_told = receipt is not None and pixel_hash(rendered) == receipt.pixels_sha256
    packed = rendered if lossless else _packed(rendered, provenance.output_format)
    difference = compare(provenance.image, packed)
    # 2. Both agree, or neither, or one of them.
    whole = provenance.credentials is not None and provenance.credentials.state != "invalid"
    if as_told and difference.equal:
        return Line("good", "Rendered again, it is equal to the pixel.")
    if as_told and not lossless and whole:
        return Line(
            "good",
            "Rendered again, it is equal to the pixel to the one that was packed; this machine packs it otherwise: "
            f"{difference.sentence}",
        )
    if as_told:
        return Line(
            "bad", f"Rendered again, it is as the receipt says, and the file is not: {difference.sentence}"
        )
    if difference.equal:
        return Line("open", "Rendered again, it is as the file shows it, but no receipt says so.")
    return Line("bad", f"Rendered again, it is not equal: {difference.sentence}")


def _packed(image: Image.Image, output_format: OutputFormat) -> Image.Image:
    return Image.open(io.BytesIO(encode(image, output_format)))


def _credentials(credentials: Credentials | None) -> Iterator[Line]:
    if credentials is None:
        yield Line("bad", "It has no content credentials: there were none, or they were taken out.")
        return
    signer = echo(credentials.signer)
    match credentials.state:
        case "trusted":
            yield Line(
                "good", f"Its content credentials are whole, and signed by {signer}, who is trusted here."
            )
        case "untrusted":
            yield Line(
                "open",
                f"Its content credentials are whole, but nothing here vouches for who signed them: {signer}, a name "
                "that anybody can use.",
            )
        case "invalid":
            reasons = "; ".join(_meaning(fault) for fault in credentials.faults) or "no reason is given"
            yield Line("bad", f"Its content credentials do not hold: {reasons}.")
    if credentials.generator:
        by = f" by the model {echo(credentials.model)}" if credentials.model else ""
        yield Line(_word(credentials), f"They say that it was made{by} with {echo(credentials.generator)}.")


def _meaning(fault: str) -> str:
    code = fault.partition(":")[0]
    return f"{_MEANINGS[code]} ({code})" if code in _MEANINGS else echo(fault)


def _word(credentials: Credentials | None) -> Verdict:
    return "good" if credentials is not None and credentials.state == "trusted" else "open"


def _marks(provenance: Provenance) -> Iterator[Line]:
    credentials, xmp = provenance.credentials, provenance.xmp
    places = {
        "its content credentials": credentials and credentials.source_type,
        "its XMP (IPTC)": xmp and xmp.source_type,
    }
    for place, source_type in places.items():
        if source_type == TRAINED_ALGORITHMIC_MEDIA:
            verdict = _word(credentials)
            yield Line(
                verdict, f"It is marked as made by a trained model (trainedAlgorithmicMedia) in {place}."
            )
        elif source_type:
            yield Line("open", f"It is marked as of another origin in {place}: {echo(source_type)}.")
        else:
            yield Line("open", f"It is not marked as generated in {place}.")


def _receipt(provenance: Provenance) -> Iterator[Line]:
    receipt = provenance.receipt
    if receipt is None:
        yield Line("open", "It has no receipt, so it cannot be rendered again.")
        return
    verdict = _word(provenance.credentials)
    for text in _told(receipt):
        yield Line(verdict, text)
    match provenance.pixels:
        case "as the receipt says":
            yield Line("good", "Its pixels are those of the receipt.")
        case "not as the receipt says":
            yield Line("bad", "Its pixels are not those of the receipt: one or the other was changed.")
        case "not told":
            yield Line(
                "open",
                f"Its receipt is of the pixels before they were packed as {provenance.output_format}, which keeps none "
                "exactly: only its content credentials show that nothing was changed.",
            )


def _told(receipt: Receipt) -> Iterator[str]:
    # Content credentials keep names in the order of the alphabet, people know them in the order of the table.
    known = [name for name in GenerationParameters.model_fields if name in receipt.request]
    others = [name for name in receipt.request if name not in (*known, "prompt_sha256")]
    asked = ", ".join(
        f"{name} {echo(receipt.request[name])}" for name in (*known, *others) if name != "prompt"
    )
    yield f"Its receipt says: image {receipt.image + 1} of a request with {asked}; its own seed {receipt.seed}."
    yield (
        f"Its receipt says: the prompt {echo(receipt.prompt)}."
        if receipt.prompt is not None
        else "Its receipt keeps only a digest of the prompt."
    )
    techniques = (
        echo(", ".join(receipt.acceleration.techniques))
        if receipt.acceleration.techniques
        else "no technique"
    )
    yield (
        f"Its receipt says: {echo(receipt.software)}, profile {echo(receipt.profile)}, model "
        f"{echo(receipt.model_version)}, acceleration {echo(receipt.acceleration.level)} ({techniques}), on "
        f"{echo(receipt.hardware)}."
    )
    for lora in receipt.loras:
        yield f"Its receipt says: the LoRA {echo(lora.name)} at scale {lora.scale:g}, SHA-256 {echo(lora.digest)}."
