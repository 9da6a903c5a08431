"""Drawing tokens from models, and chats made of models."""
