"""The real step on this machine, in a process of its own: what is run, read and kept."""
