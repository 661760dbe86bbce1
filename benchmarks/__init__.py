"""Measurements, as ratios and figures from one run; each prints a table and, last, a line of JSON."""
