"""Text models: loading, fine-tuning and embedding (Paper: Sec. 3.2)."""
