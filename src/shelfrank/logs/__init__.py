"""Search logs: the contract, its validator, and a file for each source."""
