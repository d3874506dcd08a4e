"""Readouts: what the features of a frozen network are worth on another task."""
