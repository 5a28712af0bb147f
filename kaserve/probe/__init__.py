"""`python -m kaserve probe URL`: how a server, any server, treats its connections.

A client and its experiments. Knows HTTP responses (`http.responses`), and nothing of the server in this package.
"""
