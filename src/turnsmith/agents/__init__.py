"""Those who answer like a chat without being a model."""
