//! What weir knows about each destination: its admission, retry budget, latency and counters.
