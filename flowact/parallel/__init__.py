"""A call of the backbone shared out among processes: by latents, or by tokens and heads."""
