"""The experiments: each asks a server one question over connections of its own, and returns a finding.

They know what the RFCs expect, as far as the words of a finding need it. How a connection works is the business of
`client_connection`. No experiment takes for ever: see `ProbeSettings`.
"""
