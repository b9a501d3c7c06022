"""Delivery: channels, what a message says, and the couriers that send it."""
