//! The protocols' server sides, and the forwarding of bytes that are not HTTP.

pub mod explicit;
pub mod http1;
pub mod http2;
pub mod opaque;
pub mod tunnel;
