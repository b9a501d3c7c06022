"""Polls from message brokers: what is listened to, what messages say, and the batches that are stored."""
