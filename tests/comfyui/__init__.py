"""The ComfyUI node pack, without ComfyUI and with it."""
