"""`python -m kaserve probe URL`: how a server, any server, keeps its connections.

A client and its experiments. Knows HTTP (`http.responses`) and nothing of the server in this package.
"""
