"""Every feature of a search's products, offline and online."""
