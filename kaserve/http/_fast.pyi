"""The compiled syntax, to a type checker: the same as its twin in Python."""

from .wire_pure import ChunkedDecoder as ChunkedDecoder
from .wire_pure import encode_head as encode_head
from .wire_pure import find_head_end as find_head_end
from .wire_pure import join as join
from .wire_pure import parse_head as parse_head
