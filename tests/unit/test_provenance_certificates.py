"""Who signs: the certificate of the installation, or the operator's own."""

import datetime as dt
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa, x25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from PIL import Image

from depthwright.errors import OutputNotWritable
from depthwright.provenance.certificates import (
    LASTS,
    CertificateInvalid,
    Identity,
    given_certificate,
    given_roots,
    own_certificate,
    own_roots,
)
from depthwright.provenance.issuing import issue
from depthwright.provenance.marking import Marker
from depthwright.provenance.pixels import pixel_hash
from depthwright.provenance.reading import read
from depthwright.provenance.receipt import Receipt, UsedAcceleration

PEM = serialization.Encoding.PEM
DAY = dt.timedelta(days=1)
PICTURE = Image.new("RGB", (8, 8), "red")
RECEIPT = Receipt(
    request={"prompt": "a"},
    seed=1,
    profile="p",
    model_version="m",
    acceleration=UsedAcceleration(level="none"),
    hardware="cpu",
    pixels_sha256=pixel_hash(PICTURE),
)
Keys = dict[str, Callable[[], Any]]
KINDS: Keys = {
    "es256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "es384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "es512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ps256": lambda: rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}


def state(identity: Identity, *roots: str) -> str:
    """What a reader makes of a picture that is signed so."""
    found = read(Marker(identity).encode(PICTURE, "png", RECEIPT), anchors=roots).credentials
    assert found is not None
    return found.state


def named(common: str) -> x509.Name:
    organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Studio")
    return x509.Name([organisation, x509.NameAttribute(NameOID.COMMON_NAME, common)])


class Operator:
    """An operator's authority, which issues what a test wants of it."""

    def __init__(self, folder: Path) -> None:
        self.chain, self.key, self._root_key = folder / "c.pem", folder / "k.pem", KINDS["es256"]()
        self.root = self._certificate(self._root_key, "root", authority=True)

    def issues(self, key: Any = None, *, with_root: bool = False, **changes: Any) -> tuple[Path, Path]:
        """A certificate and its key, as two files."""
        key = key or KINDS["es256"]()
        chain = [self._certificate(key, "Studio Example", **changes), *([self.root] if with_root else [])]
        self.chain.write_bytes(b"".join(each.public_bytes(PEM) for each in chain))
        self.key.write_bytes(
            key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return self.chain, self.key

    @property
    def root_text(self) -> str:
        return self.root.public_bytes(PEM).decode()

    def _certificate(
        self,
        key: Any,
        name: str,
        *,
        authority: bool = False,
        signs: bool = True,
        purposes: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.EMAIL_PROTECTION,),
        begins: dt.timedelta = -DAY,
        ends: dt.timedelta = DAY,
        issuer: str = "root",
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        usage = dict.fromkeys(
            (
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "encipher_only",
                "decipher_only",
            ),
            False,
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + ends)
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
            .add_extension(
                x509.KeyUsage(digital_signature=signs, key_cert_sign=authority, crl_sign=authority, **usage),
                critical=True,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._root_key.public_key()),
                critical=False,
            )
        )
        if purposes and not authority:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        return builder.sign(self._root_key, hashes.SHA256())


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


def test_the_first_start_makes_a_certificate_and_the_next_one_uses_it(tmp_path: Path) -> None:
    first = own_certificate(tmp_path / "new" / "certificates")
    assert own_certificate(tmp_path / "new" / "certificates") == first
    assert sorted(path.name for path in (tmp_path / "new" / "certificates" / "1").iterdir()) == [
        "chain.pem",
        "key.pem",
        "root.pem",
    ]


def test_nobody_else_can_read_the_key_and_anybody_the_root(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        own_certificate(tmp_path)
    finally:
        os.umask(before)
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (tmp_path / "1").iterdir()}
    assert modes == {"chain.pem": "0o644", "key.pem": "0o600", "root.pem": "0o644"}
    assert oct((tmp_path / "1").stat().st_mode & 0o777) == "0o755"


def test_the_roots_key_is_kept_nowhere(tmp_path: Path) -> None:
    own_certificate(tmp_path)
    root = x509.load_pem_x509_certificate((tmp_path / "1" / "root.pem").read_bytes())
    texts = b"".join(path.read_bytes() for path in tmp_path.rglob("*.pem"))
    assert texts.count(b"PRIVATE KEY-----") == 2  # the signer's begins and ends
    key = serialization.load_pem_private_key((tmp_path / "1" / "key.pem").read_bytes(), None)
    assert key.public_key() != root.public_key()


def test_a_certificate_of_ours_tells_nothing_of_the_machine(tmp_path: Path) -> None:
    identity = own_certificate(tmp_path)
    certificate = x509.load_pem_x509_certificate(identity.chain)
    assert identity.name.startswith("depthwright ")
    assert certificate.subject.rfc4514_string() == f"CN={identity.name},O=depthwright"
    assert "key=" not in repr(identity)


def test_our_own_is_trusted_by_who_has_its_root_and_by_nobody_else(tmp_path: Path) -> None:
    identity = own_certificate(tmp_path / "ours")
    own_certificate(tmp_path / "others")
    assert state(identity) == "untrusted"
    assert state(identity, *own_roots(tmp_path / "others")) == "untrusted"
    assert state(identity, *own_roots(tmp_path / "others"), *own_roots(tmp_path / "ours")) == "trusted"


def test_several_processes_that_begin_at_once_make_one_certificate(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys; from depthwright.provenance.certificates import own_certificate; sys.stdin.read(1); "
        f"print(own_certificate(pathlib.Path({str(tmp_path / 'c')!r})).name)"
    )
    command = [sys.executable, "-c", code]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    names = {process.communicate("\n")[0] for process in running}
    assert [process.returncode for process in running] == [0] * 4
    assert len(names) == 1
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["1"]


def test_several_threads_that_begin_at_once_make_one_certificate(tmp_path: Path) -> None:
    found: list[Identity] = []
    start = threading.Barrier(8)

    def begin() -> None:
        start.wait()
        found.append(own_certificate(tmp_path / "c"))

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len({identity.name for identity in found}) == 1
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["1"]


def aged(folder: Path, days: int) -> Identity:
    """A folder whose first certificate was made days ago."""
    issued = issue(LASTS, dt.datetime.now(dt.UTC) - days * DAY)
    (folder / "1").mkdir(parents=True)
    for name, content in zip(("chain", "key", "root"), issued, strict=True):
        (folder / "1" / f"{name}.pem").write_bytes(content)
    return given_certificate(folder / "1" / "chain.pem", folder / "1" / "key.pem")


def test_a_certificate_signs_for_a_year_and_is_good_for_nine_more(tmp_path: Path) -> None:
    young, old = aged(tmp_path / "young", 363), aged(tmp_path / "old", 365)
    assert own_certificate(tmp_path / "young") == young
    renewed = own_certificate(tmp_path / "old")
    assert renewed != old
    assert own_certificate(tmp_path / "old") == renewed
    assert old.expires > dt.datetime.now(dt.UTC) + 9 * 365 * DAY
    # What the old one signed is trusted as before.
    assert state(old, *own_roots(tmp_path / "old")) == "trusted"
    assert state(renewed, *own_roots(tmp_path / "old")) == "trusted"


def test_one_that_has_ended_is_renewed_too(tmp_path: Path) -> None:
    issued = issue(2 * DAY, dt.datetime.now(dt.UTC) - 400 * DAY)
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "chain.pem").write_bytes(issued.certificate)
    own_certificate(tmp_path)
    assert (tmp_path / "8" / "key.pem").exists()


def test_what_stopped_halfway_is_no_certificate(tmp_path: Path) -> None:
    (tmp_path / ".draft-x").mkdir()
    (tmp_path / ".draft-x" / "key.pem").touch()
    own_certificate(tmp_path)
    assert (tmp_path / "1" / "root.pem").exists()
    assert len(own_roots(tmp_path)) == 1


def test_a_certificate_that_cannot_be_kept_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputNotWritable, match=r"No certificate can be kept in .*file: not a directory\."):
        own_certificate(tmp_path / "file")


def test_a_broken_one_is_named_and_not_replaced(tmp_path: Path) -> None:
    own_certificate(tmp_path)
    (tmp_path / "1" / "chain.pem").write_text("nothing")
    with pytest.raises(CertificateInvalid, match=r"chain\.pem holds no certificates in PEM"):
        own_certificate(tmp_path)
    (tmp_path / "1" / "root.pem").unlink()
    with pytest.raises(CertificateInvalid, match=r"The certificates in .* cannot all be read: .*root\.pem"):
        own_roots(tmp_path)


def test_a_folder_that_is_not_there_has_no_roots(tmp_path: Path) -> None:
    assert own_roots(tmp_path / "none") == ()


@pytest.mark.parametrize("kind", KINDS)
def test_an_operators_own_certificate_signs_with_any_kind_of_key(operator: Operator, kind: str) -> None:
    identity = given_certificate(*operator.issues(KINDS[kind]()))
    assert (identity.algorithm, identity.name) == (kind, "Studio Example")
    assert state(identity) == "untrusted"
    assert state(identity, operator.root_text) == "trusted"


def test_an_operators_chain_may_hold_its_root(operator: Operator) -> None:
    identity = given_certificate(*operator.issues(with_root=True))
    assert identity.chain.count(b"BEGIN CERTIFICATE") == 2
    assert state(identity, operator.root_text) == "trusted"


def test_a_key_in_any_form_of_pem_is_taken(operator: Operator) -> None:
    key = KINDS["es256"]()
    chain, path = operator.issues(key)
    path.write_bytes(
        key.private_bytes(PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    )
    assert state(given_certificate(chain, path), operator.root_text) == "trusted"


def test_a_key_of_another_certificate_is_refused(operator: Operator, tmp_path: Path) -> None:
    chain, key = operator.issues()
    own_certificate(tmp_path / "own")
    with pytest.raises(CertificateInvalid, match=r"The key in .* is not that of the first certificate in "):
        given_certificate(chain, tmp_path / "own" / "1" / "key.pem")
    assert given_certificate(chain, key).name == "Studio Example"


def test_a_chain_that_hangs_on_nothing_is_refused(operator: Operator, tmp_path: Path) -> None:
    own_certificate(tmp_path / "own")
    chain, key = operator.issues()
    chain.write_bytes(chain.read_bytes() + (tmp_path / "own" / "1" / "root.pem").read_bytes())
    with pytest.raises(CertificateInvalid, match="no chain: each must be issued by the one after it"):
        given_certificate(chain, key)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"begins": -2 * DAY, "ends": -DAY}, "is not one of today: it is good from "),
        ({"begins": DAY, "ends": 2 * DAY}, "is not one of today: it is good from "),
        ({"authority": True}, "cannot sign pictures: it is an authority's"),
        ({"signs": False}, "cannot sign pictures: it is not for digital signatures"),
        ({"purposes": ()}, "cannot sign pictures: it names no purpose"),
        (
            {"purposes": (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)},
            "cannot sign pictures: it is for any purpose at all",
        ),
        ({"issuer": "Studio Example"}, "cannot sign pictures: it is signed by itself"),
    ],
)
def test_a_certificate_that_readers_would_refuse_is_refused_at_the_start(
    operator: Operator, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(CertificateInvalid) as refused:
        given_certificate(*operator.issues(**changes))
    assert words in str(refused.value)


def test_what_cannot_be_read_as_a_certificate_or_a_key_is_refused_in_words(
    operator: Operator, tmp_path: Path
) -> None:
    chain, key = operator.issues()
    absent, noise, locked = tmp_path / "absent", tmp_path / "noise", tmp_path / "locked"
    noise.write_bytes(b"\x00\xff")
    secret = serialization.BestAvailableEncryption(b"word")
    locked.write_bytes(KINDS["es256"]().private_bytes(PEM, serialization.PrivateFormat.PKCS8, secret))
    for pair, words in {
        (absent, key): "absent cannot be read: no such file or directory",
        (noise, key): "noise holds no certificates in PEM",
        (chain, absent): "absent cannot be read: no such file or directory",
        (chain, noise): "noise holds no private key in PEM",
        (chain, locked): "The key in .*locked has a passphrase",
    }.items():
        with pytest.raises(CertificateInvalid, match=words):
            given_certificate(*pair)


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 1024),  # noqa: S505 - refused for that
        ec.generate_private_key(ec.SECP256K1()),
        dsa.generate_private_key(2048),
        x25519.X25519PrivateKey.generate(),
    ],
    ids=["short RSA", "another curve", "DSA", "no key for signing"],
)
def test_a_key_that_c2pa_has_no_name_for_is_refused(operator: Operator, key: Any) -> None:
    with pytest.raises(
        CertificateInvalid, match="an EC key on P-256, P-384 or P-521, an RSA key of at least"
    ):
        given_certificate(*operator.issues(key))


def test_roots_that_are_none_are_refused(tmp_path: Path, operator: Operator) -> None:
    (tmp_path / "roots.pem").write_text("# ours\n" + operator.root_text)
    assert given_roots(tmp_path / "roots.pem") == operator.root_text
    (tmp_path / "roots.pem").write_text("nothing")
    with pytest.raises(CertificateInvalid, match="holds no certificates in PEM"):
        given_roots(tmp_path / "roots.pem")


def test_neither_library_is_loaded_with_the_package() -> None:
    code = (
        "import sys, depthwright.provenance.showing, depthwright.provenance.marking; "
        "print([n for n in ('c2pa', 'cryptography', 'torch', 'numpy') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
