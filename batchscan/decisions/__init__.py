"""What a marketplace enforces: one decision for each row of a report, by the operator's policy."""
