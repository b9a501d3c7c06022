"""History from other monitors: what each of them keeps, as polls for the ordinary load."""
