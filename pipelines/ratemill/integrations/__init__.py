"""Ratemill in other people's schedulers: thin layers that call the command line and read its JSON."""
