"""Pages for people: HTML made by the server from what the API's services say. Reading them needs no script."""
