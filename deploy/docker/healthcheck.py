"""Whether the daemon in this container answers: exit status 0 or 1, for Docker's HEALTHCHECK.

It looks where the daemon's environment says that it listens; settings from a file it does not know. The certificate is
not looked at: it is for the daemon's name, not for loopback.
"""

import os
import ssl
import sys
import urllib.request


def main() -> int:
    """0 where `/livez` says ok."""
    listen = os.environ.get("NETLEDGER_LISTEN", "127.0.0.1:8440")
    host, _, port = listen.rpartition(":")
    # Whoever listens everywhere listens on loopback, too.
    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)
    scheme = "https" if os.environ.get("NETLEDGER_TLS_CERT") else "http"
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(f"{scheme}://{host}:{port}/livez", timeout=4) as answer:
            return 0 if answer.read(16) == b"ok" else 1
    except (OSError, ValueError) as error:
        print(f"{scheme}://{host}:{port}/livez: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
