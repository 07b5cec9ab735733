"""How fast is everything on an accelerator? One command, `python -m bench.accelerator`, and one file a part.

part          what a part is, and what it gives
inputs        words and images
parts         the table of parts: a line more makes one more
ceilings      what the device can do at most: products, int8 products, bytes copied
__main__      the command: runs what is missing, saves after each part
"""
