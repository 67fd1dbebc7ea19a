"""batchscan: the async batch scanner service for AI-agent skills.

Directories or manifests of skill ZIPs go in, one JSONL row per input comes out, whatever happens.
"""

__version__ = "0.1.0"
