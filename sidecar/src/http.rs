//! Messages on their way through weir: bodies, the replay buffer, hop-by-hop rules, authority.

pub mod authority;
pub mod body;
pub mod content_length;
pub mod fields;
pub mod gather;
pub mod header_limit;
pub mod hop_by_hop;
mod http2_body;
pub(crate) mod http2_frames;
pub mod http2_pump;
pub mod interim;
mod last_body;
pub mod loan;
pub mod replay;
pub mod trailers;
mod unindexed;

pub use unindexed::unindexed;
