"""Connections whose other side is verified, from the single file too."""

import importlib
import ssl
from pathlib import Path
from typing import Final

# Where systems keep the authorities they trust: Debian, Fedora, Alpine and macOS, SUSE.
_KNOWN_FILES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
)


def verifying_context() -> ssl.SSLContext:
    """Return a context that verifies certificates and names, by SSL_CERT_FILE or the authorities that the system
    trusts.

    The OpenSSL of the single file looks where those of the machine that built it were.
    """
    paths = ssl.get_default_verify_paths()
    context = ssl.create_default_context()
    if paths.cafile or paths.capath or context.cert_store_stats()["x509_ca"]:
        return context
    known = next((file for file in _KNOWN_FILES if Path(file).is_file()), None) or _bundled_file()
    if known is not None:
        context.load_verify_locations(known)
    return context


def untrusted_text(error: ssl.SSLCertVerificationError) -> str:
    """Return why a certificate is not trusted, and what to do."""
    return f"its certificate is not trusted ({error.verify_message}); SSL_CERT_FILE can name your authority's"


def _bundled_file() -> str | None:
    try:
        return str(importlib.import_module("certifi").where())
    except ImportError:
        return None
