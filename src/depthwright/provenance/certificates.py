"""Who signs a picture: a certificate made at first use, or the operator's own."""

import datetime as dt
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import ClassVar

from depthwright.errors import EngineNotInstalled, OutputNotWritable, UserError

# Credentials are good as long as their certificate: without a timestamp authority nothing shows that they were made
# while it was. So a certificate lasts long and signs only in its youth.
LASTS = dt.timedelta(days=3652)
SIGNS = dt.timedelta(days=365)
_CHAIN, _KEY, _ROOT = "chain.pem", "key.pem", "root.pem"


class CertificateInvalid(UserError):
    """A certificate or its key cannot be read, or cannot sign pictures; the message names the file and says why."""

    exit_code: ClassVar[int] = 2


@dataclass(frozen=True)
class Identity:
    """A signer: certificates in PEM with its own first, its key in PEM, and what C2PA calls the key's algorithm."""

    chain: bytes
    key: bytes = field(repr=False)
    algorithm: str
    name: str
    expires: dt.datetime


def own_certificate(folder: Path) -> Identity:
    """The certificate of this installation, made when there is none or the last one is a year old.

    Each stands whole in a numbered folder, `1`, `2`, ...: `root.pem`, which readers may trust, `chain.pem` and
    `key.pem`. It takes its name in one move, so of several processes that begin at once one makes it and all use that
    one. Raises CertificateInvalid for what is there and cannot be used, OutputNotWritable where none can be kept.
    """
    try:
        latest = max(_numbers(folder), default=0)
        place = folder / str(latest)
        if not latest or not _is_young(place):
            place = folder / str(latest + 1)
            _make(folder, place)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OutputNotWritable(f"No certificate can be kept in {folder}: {reason}.") from error
    return _read(place)


def own_roots(folder: Path) -> tuple[str, ...]:
    """The roots, in PEM, of every certificate that this installation has signed with. Raises CertificateInvalid."""
    try:
        return tuple((folder / str(number) / _ROOT).read_text("ascii") for number in _numbers(folder))
    except (OSError, UnicodeDecodeError) as error:
        raise CertificateInvalid(f"The certificates in {folder} cannot all be read: {error}.") from error


def given_roots(path: Path) -> str:
    """The roots in a file of the operator's, in PEM. Raises CertificateInvalid, where c2pa would say nothing."""
    pems, _ = _tools()
    text: bytes = pems.text_of(pems.certificates(path))
    return text.decode()


def given_certificate(chain: Path, key: Path) -> Identity:
    """The operator's own: certificates in PEM with the signer's first, and its key in PEM, without a passphrase.

    Raises CertificateInvalid for what cannot be read, does not fit together, or is out of its time.
    """
    pems, _ = _tools()
    # 1. Read both.
    certificates = pems.certificates(chain)
    private = pems.private_key(key)
    own = certificates[0]
    # 2. They belong together.
    if private.public_key() != own.public_key():
        raise CertificateInvalid(f"The key in {key} is not that of the first certificate in {chain}.")
    pems.check_chain(certificates, chain)
    # 3. It may sign pictures, and today.
    pems.check_purpose(own, chain)
    now = dt.datetime.now(dt.UTC)
    if not own.not_valid_before_utc <= now < own.not_valid_after_utc:
        times = f"{own.not_valid_before_utc:%Y-%m-%d} to {own.not_valid_after_utc:%Y-%m-%d}"
        raise CertificateInvalid(f"The certificate in {chain} is not one of today: it is good from {times}.")
    return Identity(
        chain=pems.text_of(certificates),
        key=pems.text_of_key(private),
        algorithm=pems.algorithm(private, key),
        name=pems.name(own),
        expires=own.not_valid_after_utc,
    )


def _tools() -> tuple[ModuleType, ModuleType]:
    """What reads and what makes certificates. Raises EngineNotInstalled."""
    try:
        from depthwright.provenance import (  # noqa: PLC0415 - cryptography takes a tenth of a second to load
            issuing,
            pems,
        )
    except ModuleNotFoundError as error:
        raise EngineNotInstalled(
            "Content credentials are not installed (cryptography missing): pip install 'depthwright[marking]'"
        ) from error
    return pems, issuing


def _numbers(folder: Path) -> list[int]:
    try:
        return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal())
    except FileNotFoundError:
        return []


def _is_young(place: Path) -> bool:
    pems, _ = _tools()
    begins: dt.datetime = pems.certificates(place / _CHAIN)[0].not_valid_before_utc
    return dt.datetime.now(dt.UTC) < begins + SIGNS


def _read(place: Path) -> Identity:
    return given_certificate(place / _CHAIN, place / _KEY)


def _make(folder: Path, place: Path) -> None:
    """Put a new certificate at `place`, unless another process does so first."""
    _, issuing = _tools()
    issued = issuing.issue(LASTS)
    folder.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder))
    try:
        _write(draft / _KEY, issued.key, 0o600)
        _write(draft / _CHAIN, issued.certificate, 0o644)
        _write(draft / _ROOT, issued.root, 0o644)
        draft.chmod(0o755)
        # A folder never takes the name of one that holds something: who comes second fails here.
        draft.rename(place)
    except OSError:
        if not (place / _KEY).exists():
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a file that nobody but those in `mode` could read at any moment."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
