"""The servers that are compared.

Each has one process (or one worker), its access log off, an idle timeout of 120 s where it has one, and room for the
10,000 connections of the idle workload. Otherwise it runs as its own documentation recommends.
"""

from lib.peers import kaserve_server, native_servers, python_servers
from lib.peers.peer import Peer, Site

__all__ = ["PEERS", "Peer", "Site"]

PEERS = {peer.name: peer for peer in (*kaserve_server.PEERS, *python_servers.PEERS, *native_servers.PEERS)}
