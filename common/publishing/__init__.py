"""Publishers: what takes events to a broker or an HTTP sink."""
