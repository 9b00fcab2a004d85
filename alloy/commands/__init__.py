"""One file a verb, each thin: load the recipe, call, print. shared.py holds their options."""
