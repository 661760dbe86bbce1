"""A root and a signer's certificate under it, as C2PA's certificate profile wants them."""

import datetime as dt
import secrets
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DOCUMENT_SIGNING = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")  # RFC 9336
_SKEW = dt.timedelta(days=1)  # clocks of readers go behind ours
_USES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


class Issued(NamedTuple):
    """A signer's certificate, its key and its root, in PEM; the root's key is gone, so it never signs another."""

    certificate: bytes
    key: bytes
    root: bytes


def issue(lasts: dt.timedelta, now: dt.datetime | None = None) -> Issued:
    """Make a P-256 key, its certificate and the root above it, named by a number that tells nothing of the machine."""
    begins = (now or dt.datetime.now(dt.UTC)) - _SKEW
    number = secrets.token_hex(4)
    # 1. The root, which signs itself.
    root_key = ec.generate_private_key(ec.SECP256R1())
    root_name, root_id = _name(f"depthwright root {number}"), _identifier(root_key)
    root = (
        _builder(root_key, root_name, root_name, begins, begins + lasts)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(root_id, critical=False)
        .sign(root_key, hashes.SHA256())
    )
    # 2. The signer, which signs pictures and nothing else.
    key = ec.generate_private_key(ec.SECP256R1())
    purposes = [ExtendedKeyUsageOID.EMAIL_PROTECTION, _DOCUMENT_SIGNING]
    above = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(root_id)
    certificate = (
        _builder(key, _name(f"depthwright {number}"), root_name, begins, begins + lasts)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(_identifier(key), critical=False)
        .add_extension(above, critical=False)
        .sign(root_key, hashes.SHA256())
    )
    # 3. All as text; what made the root is forgotten here.
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Issued(certificate.public_bytes(pem), secret, root.public_bytes(pem))


def _builder(
    key: ec.EllipticCurvePrivateKey,
    subject: x509.Name,
    issuer: x509.Name,
    begins: dt.datetime,
    ends: dt.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )


def _name(common: str) -> x509.Name:
    # C2PA wants an organisation; the installation is nobody's in particular.
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "depthwright"),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _identifier(key: ec.EllipticCurvePrivateKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(key.public_key())


def _usage(*uses: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{use: use in uses for use in _USES})
