"""What a person reads: the texts in each language, refusals, and the notices that stand inside an answer."""
