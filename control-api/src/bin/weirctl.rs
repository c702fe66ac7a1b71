//! `weirctl`: the control API for people.
fn main() {}
