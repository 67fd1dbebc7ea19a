"""The service: runs for months, makes the runs of its schedules and of its HTTP API, and tells how it is.

``app`` tells how its parts meet.
"""
