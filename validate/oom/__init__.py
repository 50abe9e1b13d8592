"""Out of memory: what a message says, what it means, and what would have fitted."""
