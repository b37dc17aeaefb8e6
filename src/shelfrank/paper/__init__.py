"""The paper's experiments, which nothing else uses."""
