"""Schedules: reports that are made and sent by themselves."""
