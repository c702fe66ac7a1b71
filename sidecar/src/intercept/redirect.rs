//! Puts the rules into the kernel of the network namespace we are in, takes them out, and proves that they work.
//!
//! Everything goes over netlink: no `nft` or `iptables` binary, and no capability but `CAP_NET_ADMIN`.

use std::fmt;

use nlink::netlink::nftables::Family;
use nlink::{Connection, Nftables};

use super::rules::{Ruleset, TABLE};

pub mod verify;

/// Why the rules could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    /// The kernel will not let us.
    #[error(
        "changing nftables rules: permission denied; the container needs the capability NET_ADMIN \
         (securityContext.capabilities.add: [NET_ADMIN]) and runAsUser: 0, or file capabilities on the binary"
    )]
    Forbidden(#[source] nlink::Error),
    /// The kernel has no nftables, or not the parts that the rules need.
    #[error(
        "changing nftables rules: {0}; the kernel lacks a part of nf_tables that weir needs (nat in the inet family: \
         Linux 5.2 or later, modules nf_tables, nft_chain_nat, nft_redir, nft_fib_inet)"
    )]
    Unsupported(#[source] nlink::Error),
    /// Anything else that netlink answered.
    #[error("changing nftables rules: {0}")]
    Netlink(#[source] nlink::Error),
}

impl From<nlink::Error> for RedirectError {
    fn from(error: nlink::Error) -> Self {
        if error.is_permission_denied() {
            Self::Forbidden(error)
        } else if error.is_not_supported() || error.is_not_found() {
            Self::Unsupported(error)
        } else {
            Self::Netlink(error)
        }
    }
}

/// Replaces our table by `rules`, all or nothing. Safe to repeat: no packet sees a moment without rules.
///
/// # Errors
/// [`RedirectError`]; the rules are then what they were before.
pub async fn install(rules: &Ruleset) -> Result<Installed, RedirectError> {
    let connection = Connection::<Nftables>::new()?;
    let transaction = rules.replace(connection.transaction())?;
    transaction.commit(&connection).await?;
    Ok(Installed(connection))
}

/// The channel by which rules were installed. The rules stay when it is dropped.
///
/// The kernel closes it only once it has tidied up after the transaction, which takes about 10 ms. Whoever is in a
/// hurry keeps it for a while.
pub struct Installed(#[allow(dead_code, reason = "kept for its drop")] Connection<Nftables>);

impl fmt::Debug for Installed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Installed")
    }
}

/// Removes our table; tells whether there was one.
///
/// # Errors
/// [`RedirectError`]; the rules are then what they were before.
pub async fn remove() -> Result<bool, RedirectError> {
    let connection = Connection::<Nftables>::new()?;
    Ok(connection.del_table_if_exists(TABLE, Family::Inet).await?)
}

/// Whether our table is installed.
///
/// # Errors
/// [`RedirectError`] when the kernel will not list its tables.
pub async fn is_installed() -> Result<bool, RedirectError> {
    let connection = Connection::<Nftables>::new()?;
    let tables = connection.list_tables_in(Family::Inet).await?;
    Ok(tables.iter().any(|table| table.name == TABLE))
}
