"""Certificates of our own making, for 127.0.0.1, and who shows which."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

HOST: Final = "127.0.0.1"
TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A certificate and its key, both PEM; `der` is what a client sees of it."""

    certificate: bytes
    key: bytes
    der: bytes

    @classmethod
    def made(cls) -> Self:
        """A new one, signed by itself, good for a day."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "forebay fault matrix")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(HOST))]), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        return cls(
            certificate=certificate.public_bytes(serialization.Encoding.PEM),
            key=key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
            der=certificate.public_bytes(serialization.Encoding.DER),
        )


def trusting_anybody() -> ssl.SSLContext:
    """A client that looks at no name: which certificate it is, the case looks at."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def shown(port: int) -> bytes | None:
    """The certificate, DER, that a new handshake is shown; None where the handshake fails."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            _, writer = await asyncio.open_connection(HOST, port, ssl=trusting_anybody())
    except OSError:  # ssl.SSLError and TimeoutError are
        return None
    seen: ssl.SSLObject = writer.get_extra_info("ssl_object")
    certificate = seen.getpeercert(binary_form=True)
    writer.transport.abort()
    return certificate
