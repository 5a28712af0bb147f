"""A simulator: clients, kaserve as a proxy, and servers behind it, on simulated sockets and a fake clock.

    python -m tests.simulator --runs 200000          # seeds 0 to 199,999
    python -m tests.simulator --seed 4711 --trace    # one seed again, with its history

One seed decides everything: how many clients there are and what they ask, in which pieces bytes move and in which
order, who stalls, closes, half-closes or resets, what the servers respond and when, how much time passes in between,
and when the proxy is told to drain. Nothing sleeps, and nothing else is random, so a seed that fails does so again.

What must hold in every history is in `checks`. The modules:

    plan     what a seed asks for: clients, requests, and what becomes of each response
    actors   a client and a server behind the proxy, which do what the plan says, a piece at a time
    network  pairs of simulated sockets, and their poller
    world    one run: picks who moves next, lets time pass, and at the end waits until everything is over
    checks   the rules, as functions of what each side has seen

Whether it notices anything was tried by planting faults in the proxy, and running 2,500 seeds with each. Noticed: a
second try of a POST (by 11 seeds) and a third one of a GET (1); a second try without its body; a request on a
connection after `Connection: close` (3); a response deadline that was never set (783); the last piece of a body dropped
(26); a cut-off response that ended like a whole one (3); a request that went on after its client had left; a connection
that was forgotten, idle or in use. Not noticed, since a second check makes up for each: that a connection is kept
although bytes are unread, or is not looked at before it is used again.
"""
