"""Blocks of models as programs on a tape: what autograd saves in each, and the temporaries around it."""
