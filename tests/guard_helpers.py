"""Keys, and raw bytes to a real server, in tests of who may ask."""

MASTER = "correct-horse:battery"


HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


HEAD = b"POST /trigger_report HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
