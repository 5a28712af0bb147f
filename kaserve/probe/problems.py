"""Problems: what the findings of a probe mean for clients, and what to do about each; and the verdict in one line.

Knows every finding that is not good, and some that are a matter of taste but cost a request now and then. Does not know
how any of it is printed. Nothing here says that a server announced something unless it did: a response of HTTP/1.0 ends
its connection without a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .client_connection import RESET
from .experiments.closing import Closing, HalfClose
from .experiments.first_response import Basics
from .experiments.persistence import IdleTimeout, Persistence, RequestLimit
from .experiments.pipelining import Pipeline
from .experiments.request_bodies import PARSES_BODY, ChunkedRequest, RequestBody
from .finding import Finding

__all__ = ["Problem", "find_problems", "verdict"]


@dataclass(frozen=True)
class Problem:
    """Something that costs clients requests or time.

    Attributes:
        what: what happens, and to whom, in a sentence.
        remedy: what to do about it, in a sentence.
        is_note: whether it is only a hint: most servers do so, and it is not counted in the verdict.
    """

    what: str
    remedy: str
    is_note: bool = False


def verdict(basics: Basics, findings: Mapping[str, Finding | None]) -> str:
    """Returns the result of a probe in one line."""
    count = sum(not problem.is_note for problem in find_problems(basics, findings))
    problems = f"{count} problem" if count == 1 else f"{count} problems"
    persistence, body = findings.get("persists_1_1"), findings.get("unread_body")
    if isinstance(body, RequestBody) and body.outcome == PARSES_BODY:
        return f"insecure: a sender can smuggle requests in ({problems})"
    if isinstance(persistence, Persistence) and not persistence.persists:
        return f"no keep-alive: each request needs a new connection ({problems})"
    if not count:
        return "good: connections are kept, and nothing was found that costs a client a request"
    return f"connections are kept, with {problems}"


def find_problems(basics: Basics, findings: Mapping[str, Finding | None]) -> list[Problem]:
    """Returns the problems, in the order of the findings.

    Args:
        basics: what the first response says.
        findings: by their names; see `kaserve.probe.report`.
    """
    problems = list(_of_basics(basics))
    for name, finding in findings.items():
        if finding is not None:
            problems += _problems_of(name, finding, basics)
    return problems


def _of_basics(basics: Basics) -> Iterator[Problem]:
    if basics.date != "present":
        yield Problem(
            f"The Date header is {basics.date} (RFC 9110 §6.6.1): caches cannot tell how old a response is.",
            "Send a Date in the form 'Sun, 06 Nov 1994 08:49:37 GMT' with every response.",
        )


def _problems_of(name: str, finding: Finding, basics: Basics) -> Iterator[Problem]:
    if isinstance(finding, Persistence):
        yield from _of_persistence(name, finding, basics)
    elif isinstance(finding, Pipeline):
        yield from _of_pipeline(finding)
    elif isinstance(finding, RequestBody):
        yield from _of_body(finding)
    elif isinstance(finding, ChunkedRequest):
        yield from _of_chunks(finding)
    elif isinstance(finding, Closing):
        yield from _of_closing(finding)
    elif isinstance(finding, HalfClose):
        if not finding.responds:
            yield Problem(
                "A client that closes its side after its request gets no response.",
                "Respond before closing: the end of what a client sends is not the end of the client (RFC 9112 §9.6).",
            )
    elif isinstance(finding, RequestLimit):
        yield from _of_limit(finding, basics)
    elif isinstance(finding, IdleTimeout):
        yield from _of_idle(finding)
    elif finding.good is False:
        yield Problem(
            f"An experiment could not be completed: {finding}.",
            "Repeat the probe. If it fails again, the server's log may say what happened to that request.",
        )


def _of_persistence(name: str, found: Persistence, basics: Basics) -> Iterator[Problem]:
    if name == "persists_1_1" and not found.persists:
        if basics.version == "HTTP/1.0":
            remedy = "Have the server respond with HTTP/1.1 (for http.server: protocol_version = 'HTTP/1.1')."
        else:
            remedy = "Switch keep-alive on in the server, or put a proxy in front that keeps connections to clients."
        yield Problem("An HTTP/1.1 connection carries one request, so each needs a new connection.", remedy)
    if not found.persists and not found.ended:
        what = "An HTTP/1.0 connection without keep-alive stays open: a client that waits for its end waits for ever."
        if name == "persists_1_1":
            what = "A connection that carries no second request stays open, and uses up a place in the server."
        elif name == "persists_1_0_keep_alive":
            what = "An HTTP/1.0 connection stays open, and no response says so: its client waits for the end for ever."
        yield Problem(
            what, "Close each connection whose response did not say 'Connection: keep-alive' (RFC 9112 §9.3)."
        )


def _of_pipeline(found: Pipeline) -> Iterator[Problem]:
    if found.head_has_body:
        yield Problem(
            "The response to HEAD has a body (against RFC 9110 §9.3.2), which a client reads as the next response.",
            "Leave the content out of responses to HEAD.",
        )
    if found.responses < found.sent:
        yield Problem(
            "Pipelined requests are lost: a client must send those without a response again.",
            "Respond to each request that has arrived before closing (RFC 9112 §9.3.2).",
        )
    elif not found.in_order:
        yield Problem(
            "Responses to pipelined requests are out of order: a client takes one for another.",
            "Respond in the order of the requests (RFC 9112 §9.3.2).",
        )


def _of_body(found: RequestBody) -> Iterator[Problem]:
    if found.outcome == PARSES_BODY:
        yield Problem(
            "A body that the server does not read is parsed as requests: its sender can smuggle requests in.",
            "Read the body to its end or close the connection (RFC 9112 §11.2). Until then, keep it off the Internet.",
        )
    elif not found.good:
        yield Problem(
            f"A POST with a body that is not wanted ends badly ({found}): the client may lose its response.",
            "Read the body to its end, or say 'Connection: close' and read on for a moment before closing.",
        )


def _of_chunks(found: ChunkedRequest) -> Iterator[Problem]:
    if found.outcome == PARSES_BODY:
        yield Problem(
            "A chunked body is parsed as requests: its sender can smuggle requests in.",
            "Decode the chunked coding, or reject it with 501 and close the connection (RFC 9112 §7.1).",
        )
    elif not found.good:
        yield Problem(
            f"A chunked request is not understood ({found}): clients send one when they do not know the length.",
            "Decode the chunked coding, as each HTTP/1.1 recipient must (RFC 9112 §7.1), or do so in a proxy in front.",
        )


def _of_closing(found: Closing) -> Iterator[Problem]:
    if found.good is False:
        late = "Bytes that arrive after the close are reset, which can destroy the response on its way to the client."
        what = "After 'Connection: close' the connection stays open." if not found.ended else late
        yield Problem(
            what if found.ended != RESET else "A connection ends with a reset, which can destroy its last response.",
            "Close the sending side first and read what is still on its way (RFC 9112 §9.6; nginx: lingering_close).",
        )


def _of_limit(found: RequestLimit, basics: Basics) -> Iterator[Problem]:
    if found.good is False:
        yield Problem(
            "The last response on a connection does not announce its end: the client's next request is lost.",
            "Send 'Connection: close' with the last response.",
        )
    if found.ended and basics.max is not None and found.requests <= basics.max:
        yield Problem(
            f"It announces max={basics.max} after one request and accepts {found.requests} in all.",
            "Announce the number of requests that are left, or no max at all.",
            is_note=True,
        )


def _of_idle(found: IdleTimeout) -> Iterator[Problem]:
    if found.good is False:
        yield Problem(
            f"It announces {found.announced} s and closes after {found.seconds:.1f} s: a client that relies on the "
            "announcement may lose a request.",
            "Wait a second or two longer than the Keep-Alive header says, or announce less.",
        )
    if found.late_request == RESET:
        yield Problem(
            "A request that crosses the idle close is reset: a client may repeat a GET then, but not a POST.",
            f"Set the idle timeout of the client, or of the proxy in front, below {found.seconds:.0f} s.",
            is_note=True,
        )
