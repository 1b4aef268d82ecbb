"""What makes a stream faster and leaves it as it is, or nearly: off by default, one switch each."""
