//! Black-box tests of weir: harness and peers. The tests themselves are in `tests/`.
