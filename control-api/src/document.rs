//! The policy document, `weir/v1`: what people and machines write, and what the control API serves.
//!
//! A [`Document`] exists only if everything in it is right: parsing reports all mistakes at once, each with its place.
//! [`Document::compile`] turns it into the [`Policy`] that the data plane reads.

mod change;
mod check;
mod compile;
mod error;
mod leaf;
mod quantity;
mod read;
mod reader;
mod route;
mod settings;
#[cfg(test)]
mod tests;
mod text;

pub use change::{Change, changes, merge_patch};
pub use error::{DocumentError, Finding};
pub use quantity::parse_length;
pub use settings::Settings;
pub use text::{BYTES_MAX, json_value, text_value};

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::policy::{Mode, Policy, Rule};
use route::Route;

/// The version that this crate reads and writes.
pub const VERSION: &str = "weir/v1";

/// JSON Schema (2020-12) of the document, for editors and for checks before a document reaches a proxy.
///
/// It is looser than [`Document::parse`], which alone decides: a schema cannot say that one length is above another.
pub const SCHEMA: &str = include_str!("document/schema.json");

/// A policy document in which everything is right.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Document {
    defaults: Settings,
    /// At most [`read::ROUTES_MAX`], each with a name of its own.
    routes: Vec<Route>,
    /// Sorted, each once.
    opaque_ports: Vec<u16>,
}

impl Document {
    /// Parses a document from YAML or JSON text.
    ///
    /// # Errors
    /// [`DocumentError::TooLarge`] above [`BYTES_MAX`] or with more values than any policy needs,
    /// [`DocumentError::Syntax`] if the text is neither YAML nor JSON, [`DocumentError::Invalid`] with every mistake in
    /// its contents.
    pub fn parse(text: &str) -> Result<Self, DocumentError> {
        Self::from_value(&text_value(text)?)
    }

    /// Parses a document that has already been read into a JSON value.
    ///
    /// # Errors
    /// [`DocumentError::Invalid`] with every mistake.
    pub fn from_value(value: &Value) -> Result<Self, DocumentError> {
        read::document(value).map_err(DocumentError::Invalid)
    }

    /// The document as canonical JSON: members in a fixed order, what was not given left out.
    #[must_use]
    pub fn to_value(&self) -> Value {
        // Nothing in a document can fail to serialise: all its keys are text and all its numbers finite.
        serde_json::to_value(self).unwrap_or_default()
    }

    /// The document as YAML, for people.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        serde_yaml_ng::to_string(&self.to_value()).unwrap_or_default()
    }

    /// What the data plane reads: the defaults merged into each route, ready to be matched.
    #[must_use]
    pub fn compile(&self) -> Policy {
        self.compile_in(Mode::default())
    }

    /// As [`compile`](Self::compile), with the mode of calls of which the document says none.
    #[must_use]
    pub fn compile_in(&self, mode: Mode) -> Policy {
        compile::policy(self, mode)
    }

    /// What is allowed, yet probably not meant: each with its place.
    #[must_use]
    pub fn warnings(&self) -> Vec<Finding> {
        check::warnings(self)
    }
}

/// The settings that add up to `rule`, written out in full.
#[must_use]
pub fn effective_settings(rule: &Rule) -> Settings {
    compile::settings(rule)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    version: &'static str,
    #[serde(skip_serializing_if = "Settings::is_empty")]
    defaults: &'a Settings,
    #[serde(skip_serializing_if = "<[Route]>::is_empty")]
    routes: &'a [Route],
    #[serde(skip_serializing_if = "<[u16]>::is_empty")]
    opaque_ports: &'a [u16],
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Wire {
            version: VERSION,
            defaults: &self.defaults,
            routes: &self.routes,
            opaque_ports: &self.opaque_ports,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_value(&Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
