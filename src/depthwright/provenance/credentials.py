"""Content credentials as c2pa reads and checks them, and the one place where that library is imported and set up."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from depthwright.errors import EngineNotInstalled

if TYPE_CHECKING:
    import c2pa

State = Literal["trusted", "untrusted", "invalid"]
# Content credentials name what is in no standard by a reversed domain; `.alt` is kept apart for names that no registry
# will ever give to anybody (RFC 9476).
RECEIPT_LABEL = "alt.depthwright.receipt"
_UNTRUSTED = "signingCredential.untrusted"
# Nothing here ever leaves the machine: no manifest kept elsewhere, no status of a certificate, no timestamp.
_SETTINGS: dict[str, Any] = {
    "core": {"allowed_network_hosts": []},
    "verify": {"verify_after_sign": False, "remote_manifest_fetch": False, "ocsp_fetch": False},
    "builder": {"thumbnail": {"enabled": False}, "actions": {"auto_created_action": {"enabled": False}}},
}


@dataclass(frozen=True)
class Credentials:
    """What a picture's content credentials say, and what they are worth.

    `trusted`: nothing was changed since they were signed, by somebody under one of the anchors. `untrusted`: nothing
    was changed, but who signed is only a name that anybody could have used. `invalid`: something was changed, or they
    cannot be read; `faults` tells what, in C2PA's words, and nothing else here can be relied on.
    """

    state: State
    signer: str = ""
    generator: str = ""
    model: str = ""
    source_type: str | None = None
    receipt: str | None = None
    faults: tuple[str, ...] = ()


def library() -> ModuleType:
    """The c2pa library, which takes a fifth of a second to load. Raises EngineNotInstalled."""
    try:
        import c2pa  # noqa: PLC0415 - the command's help is not to wait for it
    except ImportError as error:
        raise EngineNotInstalled(
            "Content credentials are not installed (c2pa missing): pip install 'depthwright[marking]'"
        ) from error
    module: ModuleType = c2pa
    return module


def context(anchors: Sequence[str] = ()) -> "c2pa.Context":
    """How c2pa is to work: offline, trusting the roots in `anchors` (PEM) and those it brings."""
    trust = {"trust": {"user_anchors": "\n".join(anchors)}} if anchors else {}
    return library().Context.from_dict(_SETTINGS | trust)


def read_credentials(data: bytes, mime: str, anchors: Sequence[str] = ()) -> Credentials | None:
    """Check the credentials in a file; None if it has none. Raises EngineNotInstalled."""
    c2pa = library()
    try:
        with c2pa.Reader(mime, io.BytesIO(data), context=context(anchors)) as reader:
            store = json.loads(reader.json())
    except c2pa.C2paError.ManifestNotFound:
        return None
    except c2pa.C2paError as error:
        return Credentials("invalid", faults=(str(error),))
    return _judged(store)


def _judged(store: Mapping[str, Any]) -> Credentials:
    manifest = _mapping(_mapping(store.get("manifests")).get(str(store.get("active_manifest"))))
    faults = tuple(_faults(store))
    # 1. What c2pa makes of them: valid is all but the signer.
    states: dict[Any, State] = {"Valid": "untrusted", "Trusted": "trusted"}
    # 2. Who says it, and what.
    signature = _mapping(manifest.get("signature_info"))
    created = next(_creations(manifest), {})
    source_type = created.get("digitalSourceType")
    receipt = next(_assertions(manifest, RECEIPT_LABEL), None)
    return Credentials(
        state=states.get(store.get("validation_state"), "invalid"),
        signer=str(signature.get("common_name") or signature.get("issuer") or ""),
        generator=_named(next(iter(manifest.get("claim_generator_info") or ()), None)),
        model=_named(created.get("softwareAgent")),
        source_type=None if source_type is None else str(source_type),
        receipt=None if receipt is None else json.dumps(receipt, ensure_ascii=False),
        faults=faults,
    )


def _faults(store: Mapping[str, Any]) -> Iterator[str]:
    for status in store.get("validation_status") or ():
        if status["code"] != _UNTRUSTED:
            yield f"{status['code']}: {status.get('explanation') or 'no more is said'}"


def _creations(manifest: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for data in _assertions(manifest, "c2pa.actions"):
        actions = data.get("actions")
        for action in map(_mapping, actions if isinstance(actions, list) else ()):
            if action.get("action") == "c2pa.created":
                yield action


def _assertions(manifest: Mapping[str, Any], label: str) -> Iterator[Mapping[str, Any]]:
    # A later version or a second one of a kind has an ending of its own: `.v2`, `__1`.
    for assertion in manifest.get("assertions") or ():
        if str(assertion.get("label")).startswith(label):
            yield _mapping(assertion.get("data"))


def _mapping(value: Any) -> Mapping[str, Any]:
    # What is inside an assertion is as its author liked it.
    return value if isinstance(value, dict) else {}


def _named(agent: Any) -> str:
    if isinstance(agent, str):
        return agent
    told = _mapping(agent)
    return " ".join(str(told[part]) for part in ("name", "version") if told.get(part))
