"""Is the prediction true? A trace without a GPU, a measurement with one, and what they teach."""
