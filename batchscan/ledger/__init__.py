"""The ledger: the only shared state, and the one place that decides what happens to a digest."""
