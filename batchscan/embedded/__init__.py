"""The embedded endpoint: the same API on loopback, judged by a local detection library.

``server.serve`` runs it; nothing else of this package is for other rooms but ``settings`` and ``drill``.
"""
