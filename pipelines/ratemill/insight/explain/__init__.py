"""Why a figure is what it is: an invoice line taken apart, from the meter to the total.

Pure: frames of a run in, a tree of steps out (:mod:`~ratemill.insight.explain.model`). Every figure in the tree is the
result of a :class:`~ratemill.insight.explain.arithmetic.Working` whose operands stand beside it, computed in plain
decimals and not by the engine, and held against what the run stored: an explanation that disagrees is never shown.
"""
