"""Alerts: what is wrong now, from the live snapshot, and who is to hear of it."""
