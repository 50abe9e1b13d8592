"""Memory of a workload on one GPU: terms, the phases they live in, and the peak."""
