"""TLS, with a certificate and its key in one PEM file. This makes one for a test:

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout site.pem -out cert.pem && cat cert.pem >>site.pem

python examples/tls.py site.pem [PORT], until Ctrl-C.
"""

from __future__ import annotations

import sys

from kaserve import Config, Request, Response, Server


def handler(request: Request) -> Response:
    return Response.text(f"hello over {request.scheme}\n")


def main() -> None:
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 8443
    server = Server(handler, Config(port=port, tls_cert=sys.argv[1]))  # raises OSError for a bad certificate
    server.open()
    print(f"at {server.url} until Ctrl-C", flush=True)
    server.run()


if __name__ == "__main__":
    main()
