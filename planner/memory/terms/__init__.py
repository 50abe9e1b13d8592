"""One kind of memory per file; each term carries its formula, its values and its source."""
