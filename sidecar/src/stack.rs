//! The tower layers that a call passes: record, retry, admit, attempt.

pub mod response;

pub use response::ResponseBody;
