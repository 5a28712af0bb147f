"""Whether pipelined requests get responses, all of them and in order (RFC 9112 §9.3.2)."""

from __future__ import annotations

from dataclasses import dataclass

from ...http.response_reader import ReceivedResponse
from ..client_connection import NoResponse
from ..finding import Finding
from ..settings import ProbeSettings
from .persistence import how_it_ends

__all__ = ["Pipeline", "pipelining"]

_MISSING_PATH = "/kaserve-probe-finds-nothing-here"


@dataclass(frozen=True)
class Pipeline(Finding):
    """Several requests that were sent in one segment.

    Attributes:
        sent: requests.
        responses: responses.
        in_order: whether the responses are in the order of the requests, as far as they can be told apart.
        why: why there were fewer responses than requests.
        head_has_body: whether the response to HEAD has a body; HEAD is then left out of the pipeline.
    """

    sent: int
    responses: int
    in_order: bool
    why: str
    head_has_body: bool

    @property
    def good(self) -> bool | None:
        return self.responses == self.sent and self.in_order and not self.head_has_body

    def __str__(self) -> str:
        if self.responses == self.sent:
            return f"all {self.sent} responses, {'in order' if self.in_order else 'NOT in order'}"
        return f"{self.responses} of {self.sent} responses, then {self.why}"


def pipelining(settings: ProbeSettings) -> Pipeline:
    """Sends GET and HEAD of the target and of a resource that is missing, in one segment.

    Responses in another order show by their status, or by a body where there must be none. What the statuses should be
    is found out before, with one connection for each request.
    """
    requests = [("GET", ""), ("HEAD", ""), ("GET", _MISSING_PATH), ("GET", ""), ("HEAD", _MISSING_PATH), ("GET", "")]
    alone, head_has_body = _statuses_alone(settings, requests)
    if head_has_body:  # where the next response begins could then not be told
        requests = [request for request in requests if request[0] != "HEAD"]
    statuses, why = _statuses_in_pipeline(settings, requests)
    expected = [alone[request] for request in requests[: len(statuses)]]
    return Pipeline(len(requests), len(statuses), statuses == expected, why, head_has_body)


def _statuses_alone(
    settings: ProbeSettings, requests: list[tuple[str, str]]
) -> tuple[dict[tuple[str, str], int], bool]:
    """Returns the status of each request (method and path) when it is alone, and whether HEAD has a body."""
    statuses: dict[tuple[str, str], int] = {}
    head_has_body = False
    for method, path in dict.fromkeys(requests):
        with settings.open_connection() as connection:
            response = connection.exchange(method, settings.target.request(method, path=path))
            statuses[method, path] = response.status
            head_has_body |= method == "HEAD" and connection.receives_more(settings.settle_time)
    return statuses, head_has_body


def _statuses_in_pipeline(settings: ProbeSettings, requests: list[tuple[str, str]]) -> tuple[list[int], str]:
    """Returns the statuses of the responses that arrive, and why there are not more."""
    statuses: list[int] = []
    with settings.open_connection() as connection:
        segment = b"".join(settings.target.request(method, path=path) for method, path in requests)
        connection.send(segment, *(method for method, _ in requests))
        try:
            while len(statuses) < len(requests):
                response = connection.read_response()
                statuses.append(response.status)
                if not response.persists and len(statuses) < len(requests):
                    return statuses, f"closed ({_announcement(response)})"
        except NoResponse as error:
            return statuses, str(error)
    return statuses, ""


def _announcement(response: ReceivedResponse) -> str:
    """Returns how a client can tell that no response follows this one."""
    header = response.headers.combined("connection")
    return f"Connection: {header}" if header else how_it_ends(response)
