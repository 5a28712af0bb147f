"""Certificates: the host names that one was issued for.

Knows as much of DER (X.690) as leads from a certificate (RFC 5280 §4.1) to its subjectAltName. The standard library
tells that of a peer's certificate alone, not of our own. Does not know whether a certificate is valid, which is
OpenSSL's business.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator

__all__ = ["host_names"]

_EXTENSIONS = 0xA3  # the tag of the element, RFC 5280 §4.1
_SUBJECT_ALT_NAME = b"\x55\x1d\x11"  # the object identifier 2.5.29.17
_DNS_NAME = 0x82  # the tag of a dNSName


def host_names(pem: str) -> list[str]:
    """Returns the host names (dNSName, RFC 5280 §4.2.1.6) of the first certificate in `pem`.

    They are in lower case, and may begin with `*.`. The list is empty for a certificate without any.

    Raises:
        ValueError: there is no certificate, or it is malformed.
    """
    match = re.search("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", pem, re.DOTALL)
    if match is None:
        raise ValueError("there is no certificate in it")
    try:
        ((_, certificate),) = _elements(ssl.PEM_cert_to_DER_cert(match[0]))
        _, signed = next(_elements(certificate))
        for tag, content in _elements(signed):
            if tag == _EXTENSIONS:
                return _alternative_names(content)
    except (IndexError, StopIteration, UnicodeDecodeError, ValueError):
        raise ValueError("the certificate is malformed") from None
    return []


def _alternative_names(content: bytes) -> list[str]:
    """Returns the host names in the subjectAltName of a list of extensions."""
    ((_, extensions),) = _elements(content)
    for _, extension in _elements(extensions):
        (_, kind), *_, (_, value) = _elements(extension)
        if kind == _SUBJECT_ALT_NAME:
            ((_, names),) = _elements(value)
            return [name.decode("ascii").lower() for tag, name in _elements(names) if tag == _DNS_NAME]
    return []


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields the tag and the content of each element in `data`, a sequence of elements."""
    position = 0
    while position < len(data):
        tag, size = data[position], data[position + 1]
        position += 2
        if size >= 0x80:  # the long form: the lower bits tell how many bytes hold the size
            digits = size & 0x7F
            size = int.from_bytes(data[position : position + digits], "big")
            position += digits
        if position + size > len(data):
            raise ValueError
        yield tag, data[position : position + size]
        position += size
