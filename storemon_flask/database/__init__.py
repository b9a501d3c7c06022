"""The only package that knows SQL. One SQLite file holds the feeds, the loads with their rejects, and the reports."""
