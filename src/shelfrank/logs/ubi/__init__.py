"""OpenSearch User Behavior Insights 1.3.0 (UBI): the import from files, and the same events read live."""
