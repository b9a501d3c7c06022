"""Alerts: detect incidents in the live snapshot, and choose the channels that are told of them."""
