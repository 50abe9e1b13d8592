"""What a person or a script meets: command line, renderers, full-screen app."""
