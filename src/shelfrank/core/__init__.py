"""What every room stands on: artifacts, errors, progress, processes, schema and values."""
