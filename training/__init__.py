"""How the embedded model is made: rendered scenes in, safetensors out. Run `python -m training --help`."""
