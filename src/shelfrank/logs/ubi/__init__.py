"""OpenSearch User Behavior Insights 1.3.0: imported from files, and read live event by event."""
