"""A federation over several machines: Flower's SuperLink and SuperNodes, one process each.

The server's machine runs ``serving.serve``, each site's machine ``joining.join``. Both use the parts of
Flower that carry messages (its SuperLink's state and Fleet API, its grid, its authentication of SuperNodes)
and none of those that carry code. TLS and the authentication of learners are always on.
"""
