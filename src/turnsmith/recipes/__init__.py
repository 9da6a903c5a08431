"""Recipes: what they may say, and how they are carried out."""

from pathlib import Path

FOLDER = Path(__file__).parent
