"""Certificates and keys as PEM files: read with the reasons in words, and judged by what C2PA asks of a signer."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from depthwright.provenance.certificates import CertificateInvalid

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
_KINDS = "an EC key on P-256, P-384 or P-521, an RSA key of at least 2048 bits, or an Ed25519 key"
_PEM = serialization.Encoding.PEM


def certificates(path: Path) -> list[x509.Certificate]:
    """Every certificate of a file, in its order; at least one. Raises CertificateInvalid."""
    try:
        return x509.load_pem_x509_certificates(_content(path))
    except ValueError as error:
        raise CertificateInvalid(f"{path} holds no certificates in PEM, or broken ones.") from error


def private_key(path: Path) -> PrivateKey:
    """The key of a file. Raises CertificateInvalid for one that is locked, broken or of no kind that signs here."""
    try:
        key = serialization.load_pem_private_key(_content(path), password=None)
    except TypeError as error:
        raise CertificateInvalid(f"The key in {path} has a passphrase: take it off first.") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateInvalid(f"{path} holds no private key in PEM: it must be {_KINDS}.") from error
    if not isinstance(key, PrivateKey):
        raise CertificateInvalid(f"The key in {path} is of the wrong kind: it must be {_KINDS}.")
    return key


def algorithm(key: PrivateKey, path: Path) -> str:
    """What C2PA calls the way this key signs. Raises CertificateInvalid for a curve or a size it has no name for."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 2048:
        return "ps256"
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return _CURVES[key.curve.name]
    raise CertificateInvalid(f"The key in {path} is of the wrong kind: it must be {_KINDS}.")


def check_chain(chain: Sequence[x509.Certificate], path: Path) -> None:
    """Raises CertificateInvalid unless each certificate was issued by the one after it."""
    for one, above in pairwise(chain):
        try:
            one.verify_directly_issued_by(above)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise CertificateInvalid(
                f"The certificates in {path} are no chain: each must be issued by the one after it."
            ) from error


def check_purpose(own: x509.Certificate, path: Path) -> None:
    """Raises CertificateInvalid for a certificate that every reader of C2PA refuses, whoever issued it."""
    fault = _fault(own)
    if fault:
        raise CertificateInvalid(f"The certificate in {path} cannot sign pictures: it {fault}.")


def name(own: x509.Certificate) -> str:
    """What the certificate calls its owner: the common name, or all it says."""
    common = own.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(common[0].value) if common else own.subject.rfc4514_string()


def text_of(chain: Sequence[x509.Certificate]) -> bytes:
    """Certificates in PEM, and nothing of what else their file held."""
    return b"".join(each.public_bytes(_PEM) for each in chain)


def text_of_key(key: PrivateKey) -> bytes:
    """A key in PEM, as PKCS 8."""
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _fault(own: x509.Certificate) -> str:
    try:
        extensions = own.extensions
    except (ValueError, x509.DuplicateExtension):
        return "has extensions that cannot be read"
    found = {each.oid: each.value for each in extensions}
    constraints = found.get(x509.BasicConstraints.oid)
    usage = found.get(x509.KeyUsage.oid)
    purposes = found.get(x509.ExtendedKeyUsage.oid)
    if own.subject == own.issuer:
        return "is signed by itself"
    if isinstance(constraints, x509.BasicConstraints) and constraints.ca:
        return "is an authority's"
    if not isinstance(usage, x509.KeyUsage) or not usage.digital_signature:
        return "is not for digital signatures"
    if not isinstance(purposes, x509.ExtendedKeyUsage):
        return "names no purpose, such as emailProtection or documentSigning"
    if ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in purposes:
        return "is for any purpose at all"
    return ""


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CertificateInvalid(f"{path} cannot be read: {reason}.") from error
