//! Field values that HTTP/2 need not remember.
//!
//! HPACK keeps the fields that were sent in a table, so that a repeated one costs a byte. A value that never comes again
//! only pushes out those that do: a fresh id on every call turns the whole table over each few dozen calls.

use http::HeaderValue;

/// The value, to be sent as a literal that is never indexed (RFC 7541 §6.2.3). On HTTP/1 it changes nothing.
///
/// For values of ours that are different on every call.
#[must_use]
pub fn unindexed(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}
