"""Ratemill: month-end rating and invoicing for metered clouds."""

__version__ = "0.1.0"
