"""What people and other programs read, made from the rows of a report: one module a format."""
