"""Predictions over HTTP: no torch here."""
