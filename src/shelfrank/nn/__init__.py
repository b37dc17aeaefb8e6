"""Networks: tensors in, tensors out; features and logs are unknown here."""
