//! Which request fields weir has something to do with: one look at each field that is there.
//!
//! A call's facts come from some fifteen fields, of which most requests have none. Asking the map for each of them would
//! hash fifteen names a call.

use control_api::well_known::header;
use http::HeaderMap;

/// The groups of fields that a request has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fields(u8);

/// Fields that are read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Trace,
    Deadline,
    Priority,
    Attempts,
    IdempotencyKey,
    Upgrade,
}

impl Fields {
    /// Looks at every field's name once.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let groups = headers.keys().filter_map(|name| group(name.as_str()));
        Self(groups.fold(0, |all, group| all | group.bit()))
    }

    /// Whether a field of the group is there.
    pub(super) fn have(self, group: Group) -> bool {
        self.0 & group.bit() != 0
    }
}

impl Group {
    const fn bit(self) -> u8 {
        match self {
            Self::Trace => 1,
            Self::Deadline => 1 << 1,
            Self::Priority => 1 << 2,
            Self::Attempts => 1 << 3,
            Self::IdempotencyKey => 1 << 4,
            Self::Upgrade => 1 << 5,
        }
    }
}

fn group(name: &str) -> Option<Group> {
    Some(match name {
        "traceparent" | "tracestate" | "b3" | "x-b3-traceid" | "x-b3-spanid"
        | "x-b3-parentspanid" | "x-b3-sampled" | "x-b3-flags" => Group::Trace,
        header::GRPC_TIMEOUT | header::DEADLINE_MS | header::ENVOY_EXPECTED_TIMEOUT_MS => {
            Group::Deadline
        }
        header::PRIORITY => Group::Priority,
        header::GRPC_PREVIOUS_RPC_ATTEMPTS | header::ATTEMPT | header::ENVOY_ATTEMPT_COUNT => {
            Group::Attempts
        }
        header::IDEMPOTENCY_KEY => Group::IdempotencyKey,
        "upgrade" => Group::Upgrade,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use http::header::HeaderName;
    use http::{HeaderMap, HeaderValue};

    use super::*;

    fn of(names: &[&'static str]) -> Fields {
        let field = |name: &&'static str| (HeaderName::from_static(name), HeaderValue::from(1));
        Fields::of(&names.iter().map(field).collect::<HeaderMap>())
    }

    #[test]
    fn the_groups_that_are_there_are_found_among_other_fields() {
        let fields = of(&["host", "accept", "x-b3-traceid", "grpc-timeout"]);
        assert!(fields.have(Group::Trace) && fields.have(Group::Deadline));
        assert!(!fields.have(Group::Upgrade) && !fields.have(Group::Attempts));
    }

    #[test]
    fn a_request_without_them_has_none() {
        assert_eq!(of(&["host", "user-agent", "x-request-id"]), Fields(0));
    }
}
