"""The JSON endpoints: what a view takes, what it answers, and the OpenAPI document."""
