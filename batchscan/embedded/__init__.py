"""The embedded endpoint: the same API on loopback, judged by a local detection library."""
