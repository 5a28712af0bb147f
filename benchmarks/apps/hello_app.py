"""The hello of kaserve: a plain function."""

from kaserve import Request, Response


def hello(request: Request) -> Response:
    """Respond with five bytes of text."""
    return Response.text("hello")
