"""Schedules: reports that storemon makes and sends by itself."""
