"""Models: what an architecture is, how many parameters it has, and where its description comes from."""
