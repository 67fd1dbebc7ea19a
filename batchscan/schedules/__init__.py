"""Schedules: runs that begin by the clock, or when skills arrive."""
