//! Messages on their way through weir: bodies, the replay buffer, hop-by-hop rules, authority.

pub mod authority;
pub mod body;
pub mod hop_by_hop;
pub mod replay;
