"""Small tables of stored questions and answers, and which of their rows come nearest to a question."""
