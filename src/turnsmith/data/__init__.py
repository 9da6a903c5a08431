"""Files to examples, examples to tokens, tokens to batches."""
