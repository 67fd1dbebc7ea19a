"""Reports: one JSONL row per input, and the summary that a person reads."""
