"""Responds with the request itself, so that a test can tell which request a response belongs to."""

from kaserve import Request, Response


def echo(request: Request) -> Response:
    """The method, the target and the content of the request."""
    return Response(200, f"{request.method} {request.target}\n".encode() + request.body.read())


def echo_in_pieces(request: Request) -> Response:
    """The same, but for /pieces in chunks of a few bytes each, and for /large?N followed by N bytes."""
    response = echo(request)
    assert isinstance(response.body, bytes)
    if request.path == "/pieces":
        body = response.body
        return Response(200, (body[start : start + 1000] for start in range(0, len(body), 1000)))
    if request.path == "/large":
        return Response(200, response.body + bytes(int(request.query)))
    return response
