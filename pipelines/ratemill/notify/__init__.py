"""Telling people: events, who is told of them, the messages, and the ways they take."""
