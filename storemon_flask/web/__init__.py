"""What the API and the pages share: authentication, problem details, middleware, metrics."""
