"""HTTP/1.1 with no sockets and no clock: bytes in, requests out; responses in, bytes out."""
