"""Password hashes: reads those of several formats, and makes new ones.

Knows scrypt and PBKDF2 in the PHC string format, as passlib and others write them, and bcrypt as htpasswd makes it.
Does not know users or requests. Checking a password is slow on purpose; the caller decides when, and in which thread.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import os
import re
from collections.abc import Callable
from hmac import compare_digest

__all__ = ["Check", "hash_password", "read_hash"]

Check = Callable[[bytes], bool]  # returns whether a password matches the hash

_LOG_COST = 15  # of new hashes: scrypt with 32 MiB takes less than a tenth of a second
_BLOCK_SIZE = 8
_MAX_MEMORY = 256 << 20  # bytes; a hash that needs more is rejected, since each check would take that much
_MAX_ROUNDS = 10_000_000  # of PBKDF2: some seconds

_BASE64 = r"[A-Za-z0-9+./]"
_SALT_AND_DIGEST = rf"\$({_BASE64}*)\$({_BASE64}{{22,86}})"
_SCRYPT = re.compile(r"\$scrypt\$ln=([0-9]{1,2}),r=([0-9]{1,2}),p=([0-9]{1,2})" + _SALT_AND_DIGEST)
_PBKDF2 = re.compile(r"\$pbkdf2-(sha256|sha512)\$(?:i=)?([0-9]{1,8})" + _SALT_AND_DIGEST)
_BCRYPT = re.compile(r"\$2[aby]\$[0-9]{2}\$[A-Za-z0-9./]{53}")
_BCRYPT_SIZE = 72  # bytes of a password that bcrypt uses; newer versions of the package raise an error for more


def hash_password(password: bytes) -> str:
    """Returns a new hash of `password`, with a random salt, which `read_hash` accepts."""
    salt = os.urandom(16)
    digest = _scrypt(password, salt, 1 << _LOG_COST, _BLOCK_SIZE, 1, 32)
    return f"$scrypt$ln={_LOG_COST},r={_BLOCK_SIZE},p=1${_encode(salt)}${_encode(digest)}"


def read_hash(text: str) -> Check:
    """Returns a function that checks whether a password matches the hash `text`.

    Raises:
        ValueError: the format is not supported. The message completes a sentence, and does not contain the hash.
    """
    if found := _SCRYPT.fullmatch(text):
        return _scrypt_check(int(found[1]), int(found[2]), int(found[3]), _decode(found[4]), _decode(found[5]))
    if found := _PBKDF2.fullmatch(text):
        return _pbkdf2_check(found[1], int(found[2]), _decode(found[3]), _decode(found[4]))
    if _BCRYPT.fullmatch(text):
        return _bcrypt_check(text.encode("ascii"))
    raise ValueError("is not a hash that kaserve supports; kaserve --hash-password prints one")


def _scrypt_check(log_cost: int, block_size: int, parallel: int, salt: bytes, digest: bytes) -> Check:
    if not (0 < log_cost < 32 and block_size and parallel and 128 * block_size << log_cost <= _MAX_MEMORY):
        raise ValueError("is a scrypt hash with invalid parameters")
    return lambda password: compare_digest(
        _scrypt(password, salt, 1 << log_cost, block_size, parallel, len(digest)), digest
    )


def _scrypt(password: bytes, salt: bytes, cost: int, block_size: int, parallel: int, size: int) -> bytes:
    memory = 128 * block_size * (cost + parallel + 2)
    return hashlib.scrypt(password, salt=salt, n=cost, r=block_size, p=parallel, maxmem=memory, dklen=size)


def _pbkdf2_check(name: str, rounds: int, salt: bytes, digest: bytes) -> Check:
    if not 0 < rounds <= _MAX_ROUNDS:
        raise ValueError("is a PBKDF2 hash with invalid parameters")
    return lambda password: compare_digest(hashlib.pbkdf2_hmac(name, password, salt, rounds, len(digest)), digest)


def _bcrypt_check(text: bytes) -> Check:
    try:
        bcrypt = importlib.import_module("bcrypt")
    except ImportError:
        raise ValueError("is a bcrypt hash, for which the package bcrypt is needed: pip install bcrypt") from None
    return lambda password: bool(bcrypt.checkpw(password[:_BCRYPT_SIZE], text))


def _encode(data: bytes) -> str:
    """Encodes Base64 without padding, as in the PHC string format."""
    return base64.b64encode(data).decode("ascii").rstrip("=")


def _decode(text: str) -> bytes:
    """Decodes that, or passlib's variant, which has a dot instead of the plus sign. Raises ValueError."""
    try:
        return base64.b64decode(text.replace(".", "+") + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise ValueError("is a hash whose Base64 is malformed") from None
