"""Watching the model that trades: what it said, whether its inputs drift, how it turned out, what to do then."""
