"""The wire: what is said to the scan service and how its answers are read."""
