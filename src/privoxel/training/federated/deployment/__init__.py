"""A federation over several machines: Flower's SuperLink and SuperNodes in processes of their own.

The server's machine runs ``serving.serve``, each site's machine ``joining.join``; both start Flower's own
programs, which load ``apps`` in fresh processes. TLS and the authentication of learners are always on.
"""
