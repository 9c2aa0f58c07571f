"""Drawing of explanations."""
