"""Facts: GPUs and what they cost to rent or buy, each with its source. Imports nothing of ours."""
