"""The ranking service: a bundle behind HTTP."""
