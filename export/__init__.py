"""The artefact: what a bundle is, how it is built, opened and kept."""

import logging

# peft imports it wherever it is installed, and it says which of its kernels are not there, and of
# each 8-bit product that it rounds its inputs: to the log of a person who asked for none of it.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
