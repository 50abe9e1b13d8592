"""Published measurements: a file of cases, each expressed in our own values, predicted, and scored."""
