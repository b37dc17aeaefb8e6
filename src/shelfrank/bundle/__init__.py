"""The bundle: one folder with everything that answers a ranking request, and nothing that can run code."""
