"""The paper's Tables 1-5 and its claims, measured on a prepared log and set beside the paper's figures."""
