"""No file of the house is part of a circle of imports, names for the type checker included."""

from graphlib import TopologicalSorter

import grimp


def test_imports_have_an_order() -> None:
    graph = grimp.build_graph("hardware_db", "planner", "validate", "tui", cache_dir=None)
    order = TopologicalSorter({name: graph.find_modules_directly_imported_by(name) for name in graph.modules})
    assert set(order.static_order()) == graph.modules
