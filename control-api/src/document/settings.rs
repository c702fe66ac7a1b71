//! What a document can say about calls, in its defaults and in each route; everything is optional.

use serde::{Serialize, Serializer};

use super::quantity::{ByteSize, Length, Ratio};
use crate::policy::{AttemptTimeout, Conditions, Methods, Mode, Priority};

/// The settings of the defaults or of a route: what is not given is inherited.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mode: Option<Mode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) deadline: Option<OrNone<Length>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) attempt_timeout: Option<AttemptTimeout>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retry: Option<Retry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) admission: Option<Admission>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) priority: Option<Priority>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) breaker: Option<OrNone<Breaker>>,
}

impl Settings {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether calls of a route with these settings need admission, budget or breaker of their own.
    pub(super) fn has_own_state(&self) -> bool {
        self.admission.is_some()
            || self.breaker.is_some()
            || self
                .retry
                .as_ref()
                .is_some_and(|retry| retry.budget.is_some())
    }
}

#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Retry {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) on: Option<Conditions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) methods: Option<Methods>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) backoff: Option<Backoff>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) budget: Option<Budget>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) body_bytes_max: Option<ByteSize>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub(super) struct Backoff {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) base: Option<Length>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max: Option<Length>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub(super) struct Budget {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ratio: Option<Ratio>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) burst: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub(super) struct Admission {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) queue: Option<Queue>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub(super) struct Queue {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) length: Option<OrAuto<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<OrAuto<Length>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timeout: Option<Length>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Breaker {
    pub(super) consecutive_failures: u32,
    pub(super) ejection: Ejection,
}

/// Shortest and longest ejection: `1s..60s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ejection {
    pub(super) min: Length,
    pub(super) max: Length,
}

impl Serialize for Ejection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}..{}", self.min, self.max))
    }
}

/// A value, or the word `none`, by which a route takes back what the defaults say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OrNone<T> {
    None,
    Some(T),
}

impl<T: Serialize> Serialize for OrNone<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_str("none"),
            Self::Some(value) => value.serialize(serializer),
        }
    }
}

/// A value, or the word `auto`: weir finds it by measuring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OrAuto<T> {
    Auto,
    Fixed(T),
}

impl<T: Serialize> Serialize for OrAuto<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Fixed(value) => value.serialize(serializer),
        }
    }
}

/// One condition's word in a document, and the member of [`Conditions`] that it turns on.
pub(super) type Condition = (&'static str, fn(&mut Conditions) -> &mut bool);

/// All conditions, in the order in which canonical documents list them.
pub(super) const CONDITIONS: [Condition; 7] = [
    ("connect-failure", |on| &mut on.connect_failure),
    ("refused-stream", |on| &mut on.refused_stream),
    ("reset", |on| &mut on.reset),
    ("502", |on| &mut on.bad_gateway),
    ("503", |on| &mut on.unavailable),
    ("504", |on| &mut on.gateway_timeout),
    ("grpc-unavailable", |on| &mut on.grpc_unavailable),
];

/// No condition at all.
pub(super) const NO_CONDITIONS: Conditions = Conditions {
    connect_failure: false,
    refused_stream: false,
    reset: false,
    bad_gateway: false,
    unavailable: false,
    gateway_timeout: false,
    grpc_unavailable: false,
};

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl Serialize for Priority {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl Serialize for AttemptTimeout {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_str("none"),
            Self::Adaptive => serializer.serialize_str("adaptive"),
            Self::After(length) => Length(*length).serialize(serializer),
        }
    }
}

impl Serialize for Conditions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut on = *self;
        let listed = CONDITIONS
            .iter()
            .filter(|(_, member)| *member(&mut on))
            .map(|(word, _)| Word(word));
        serializer.collect_seq(listed)
    }
}

impl Serialize for Methods {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Idempotent => serializer.serialize_str("idempotent"),
            Self::All => serializer.serialize_str("all"),
            Self::Only(list) => serializer.collect_seq(list.iter().map(http::Method::as_str)),
        }
    }
}

/// A condition: statuses are numbers, all others text.
struct Word(&'static str);

impl Serialize for Word {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.parse::<u16>() {
            Ok(status) => serializer.serialize_u16(status),
            Err(_) => serializer.serialize_str(self.0),
        }
    }
}
