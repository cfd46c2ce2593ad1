"""The Billing API: what was published, over HTTP, each key seeing its own part; needs ``ratemill[api]``."""
