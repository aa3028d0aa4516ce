"""Constituency trees: reading and writing them, their plain form, and their form as a sequence."""
