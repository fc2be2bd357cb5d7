"""Context: all layers within one token budget, ready to send to a model."""
