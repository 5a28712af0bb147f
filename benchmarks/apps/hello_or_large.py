"""The handler of faults.py: five bytes of text, or a body that no buffer holds."""

from kaserve import Request, Response


def respond(request: Request) -> Response:
    """100 MiB in pieces for /large; "hello" for everything else."""
    if request.path == "/large":
        return Response(200, (b"x" * 65536 for _ in range(1600)))
    return Response.text("hello")
