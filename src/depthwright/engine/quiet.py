"""Silence for programs that show progress of their own."""

from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging


def silence() -> None:
    """Turn off the progress bars and advice of diffusers and transformers, for the whole process."""
    for logging in (diffusers_logging, transformers_logging):
        logging.disable_progress_bar()
        logging.set_verbosity_error()
