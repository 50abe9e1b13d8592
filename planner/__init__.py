"""The engine: request -> model -> memory -> fit -> throughput -> cost -> plan -> search."""
