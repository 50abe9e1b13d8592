"""The app behind a page: a server on this machine, and the end of its processes."""
