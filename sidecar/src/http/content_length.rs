//! One length where a message gives the same one several times.
//!
//! RFC 9110 §8.6: a recipient of such a message refuses it, or goes on with a single value. Differing ones have been
//! refused before; what is passed on must leave the next reader nothing to choose from.

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue};

/// Makes repeated lengths, as fields or as a list, one. What is no repeated length is left as it is.
pub fn make_one(headers: &mut HeaderMap) {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = values.next() else {
        return;
    };
    if values.next().is_none() && !first.as_bytes().contains(&b',') {
        return;
    }
    let one = first
        .as_bytes()
        .split(|byte| *byte == b',')
        .next()
        .and_then(|length| HeaderValue::from_bytes(length.trim_ascii()).ok());
    if let Some(one) = one {
        headers.insert(CONTENT_LENGTH, one);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_lengths_become_one() {
        for given in [&["4"][..], &["4", "4"], &["4, 4"], &["4,4", "4"]] {
            let mut headers = HeaderMap::new();
            for value in given {
                headers.append(CONTENT_LENGTH, HeaderValue::from_static(value));
            }
            make_one(&mut headers);
            let lengths: Vec<_> = headers.get_all(CONTENT_LENGTH).iter().collect();
            assert_eq!(lengths, ["4"], "{given:?}");
        }
        let mut none = HeaderMap::new();
        make_one(&mut none);
        assert!(none.is_empty());
    }
}
