"""Which URLs we take keys from."""

from contextlib import suppress
from ipaddress import ip_address
from urllib.parse import urlsplit


def key_set_url(url: str) -> str:
    """`url` if it is https, or http on a loopback host. Raises ValueError."""
    with suppress(ValueError):  # its own text would quote the URL, password and all
        parts = urlsplit(url)
        if parts.scheme == "https" and parts.hostname:
            return url
        if parts.scheme == "http" and _is_loopback(parts.hostname or ""):
            return url
    raise ValueError("must be an https:// URL (http:// is for loopback hosts only)")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
