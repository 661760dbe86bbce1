"""What makes denoising faster than the plain pipeline: one module a technique, one chooser."""
