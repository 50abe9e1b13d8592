"""What several commands share: options of a request, notes on stderr, progress."""
