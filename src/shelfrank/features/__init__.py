"""Every feature once, offline and online: history, page, text; the plan, the encoder, the store and its requests."""
