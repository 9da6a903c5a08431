"""Dialogues that chats hold with each other."""
