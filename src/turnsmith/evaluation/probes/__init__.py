"""What a model does inside: tasks that look into it, or exchange what stands there."""
