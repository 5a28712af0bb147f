"""The upload of kaserve: a plain function."""

from kaserve import Request, Response


def upload(request: Request) -> Response:
    """Read the whole body, and respond with its length in bytes."""
    return Response.text(str(len(request.body.read())))
