//! `weir`: the sidecar's binary.
fn main() {}
