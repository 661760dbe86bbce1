"""Pixels: depth, text, denoising, decoding. No HTTP, no database, no settings."""
