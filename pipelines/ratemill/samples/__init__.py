"""Workspaces that run at once."""
