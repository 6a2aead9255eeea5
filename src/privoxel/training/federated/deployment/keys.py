"""Certificates and keys of a deployment: one authority, the server's certificate, a key pair a learner.

Made once where the federation is coordinated. ``ca.pem`` goes to every site with that site's own private
key; ``ca.key`` and ``server.key`` never leave; the server keeps the learners' public keys. The sites' shared
secret is made at one of the sites: the server must not have it.
"""

import datetime
import ipaddress
import secrets
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from privoxel.errors import FederationError

CERTIFICATE_DAYS = 730
LOOPBACK = ("localhost", "127.0.0.1")
AUTHORITY, SERVER = "ca", "server"
SECRET_BYTES = 32


def make_keys(folder: Path, hosts: Sequence[str], learners: Sequence[str]) -> tuple[Path, ...]:
    """Write a new authority, the server's certificate for ``hosts``, and a key pair for each learner.

    The certificate holds for the server's own machine too: Flower's programs there talk to each other.

    Raises:
        FederationError: if the folder holds an authority already; its certificates are in use.
    """
    if (folder / f"{AUTHORITY}.pem").exists():
        raise FederationError(
            f"Keys need a new folder, got {folder}, which has an authority. Choose another --output."
        )
    folder.mkdir(parents=True, exist_ok=True)
    authority, certificate = _authority()
    made = [_write(folder / f"{AUTHORITY}.key", _pem(authority), secret=True)]
    made.append(_write(folder / f"{AUTHORITY}.pem", certificate.public_bytes(serialization.Encoding.PEM)))
    everywhere = tuple(dict.fromkeys((*hosts, *LOOPBACK)))
    made += _server(folder, everywhere, authority, certificate)
    for learner in learners:
        made += _learner(folder, learner)
    return tuple(made)


def public_key(path: Path) -> bytes:
    """Return a learner's public key as Flower compares it (PEM).

    Raises:
        FederationError: if the file holds no public key on a NIST curve.
    """
    try:
        key = serialization.load_ssh_public_key(path.read_bytes())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _unusable(path, "public", str(error)) from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise _unusable(path, "public", type(key).__name__)
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Return a learner's private key.

    Raises:
        FederationError: if the file holds no private key on a NIST curve without a password.
    """
    try:
        key = serialization.load_ssh_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _unusable(path, "private", str(error)) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _unusable(path, "private", type(key).__name__)
    return key


def _unusable(path: Path, kind: str, came: str) -> FederationError:
    return FederationError(
        f"{path} needs a {kind} key of a learner, got: {came}. "
        "Use the files made by `privoxel federate deploy keys`."
    )


def make_secret(path: Path) -> Path:
    """Write a new secret for the sites to share, in text so that it survives being copied.

    Raises:
        FederationError: if the file exists; the sites may be using it.
    """
    if path.exists():
        raise FederationError(
            f"A secret needs a new file, got {path}, which exists. Choose another --output."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    return _write(path, f"{secrets.token_hex(SECRET_BYTES)}\n".encode("ascii"), secret=True)


def read_secret(path: Path) -> bytes:
    """Return a shared secret; white space around it does not count.

    Raises:
        FederationError: if there is no such file, or it is shorter than 32 bytes, which could be guessed.
    """
    if not path.is_file():
        raise FederationError(f"A site needs its shared_secret, got no file {path}. Copy it here.")
    secret = path.read_bytes().strip()
    if len(secret) < SECRET_BYTES:
        raise FederationError(
            f"A shared_secret needs at least {SECRET_BYTES} bytes, got {len(secret)} in {path}. "
            "Make one at one of the sites by `privoxel federate deploy secret` and share it among the sites."
        )
    return secret


def _authority() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "privoxel federation")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        _builder(name, name, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return key, certificate


def _server(
    folder: Path, hosts: Sequence[str], authority: ec.EllipticCurvePrivateKey, issuer: x509.Certificate
) -> list[Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
    certificate = (
        _builder(name, issuer.subject, key)
        .add_extension(x509.SubjectAlternativeName([_alternative(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(signer, critical=False)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .sign(authority, hashes.SHA256())
    )
    return [
        _write(folder / f"{SERVER}.key", _pem(key), secret=True),
        _write(folder / f"{SERVER}.pem", certificate.public_bytes(serialization.Encoding.PEM)),
    ]


def _learner(folder: Path, name: str) -> list[Path]:
    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return [
        _write(folder / f"{name}.key", private, secret=True),
        _write(folder / f"{name}.pub", public),
    ]


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=CERTIFICATE_DAYS))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes, *, secret: bool = False) -> Path:
    path.touch(mode=0o600 if secret else 0o644)
    path.write_bytes(content)
    return path
