//! The nftables rules as a value: one `inet` table, `weir`, for IPv4 and IPv6.
//!
//! [`Ruleset::pod`] is what `weir redirect` installs beside an application in a pod; [`Ruleset::namespace`] what
//! `weir run` installs in the application's own network namespace. Both are printed as `nft list table` would print
//! them, and installed by [`redirect`](super::redirect) in one transaction.

mod statement;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use nlink::netlink::nftables::{
    BaseChain, Chain, CtDirection, Family, FibFlags, FibResult, Field, FilterHook, Match, NatHook,
    PacketField, Policy, Priority, Reject, Rule, RuleSpec, Set, SetElement, SetKeyType, Stmt,
    Transaction, Value, Verdict,
};
use nlink::netlink::types::route::RouteType;

use super::cidr::{Cidr, PortRange, merged};
use statement::{TCP, drop_invalid, from_uid, redirect, returns};

/// Name of our table.
pub const TABLE: &str = "weir";

/// Mark of the sockets that `weir run` makes inside the application's namespace to reach its ports: "weir" in ASCII.
/// Setting a mark takes `CAP_NET_ADMIN`, which the application does not have.
pub const BYPASS_MARK: u32 = 0x7765_6972;

const DNS: u16 = 53;

/// What a pod's rules leave alone, and where they send the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRules {
    /// The user id whose connections are never redirected: the proxy's own.
    pub proxy_uid: u32,
    /// The loopback port that connections are sent to.
    pub redirect_port: u16,
    /// Destination ports that are left alone.
    pub skip_ports: Vec<PortRange>,
    /// Destination addresses that are left alone.
    pub skip_cidrs: Vec<Cidr>,
    /// Whether packets that belong to no connection are dropped instead of answered with a reset.
    pub drop_invalid: bool,
}

/// A whole table: named sets, then chains.
#[derive(Debug, Clone)]
pub struct Ruleset {
    sets: Vec<RangeSet>,
    chains: Vec<HookedChain>,
}

#[derive(Debug, Clone)]
struct RangeSet {
    name: &'static str,
    kind: RangeKind,
    ranges: Vec<RangeInclusive<u128>>,
}

#[derive(Debug, Clone, Copy)]
enum RangeKind {
    Ipv4,
    Ipv6,
    Port,
}

#[derive(Debug, Clone)]
struct HookedChain {
    name: &'static str,
    kind: ChainKind,
    rules: Vec<RuleSpec>,
}

#[derive(Debug, Clone, Copy)]
enum ChainKind {
    /// Rewrites the destination of new connections that leave.
    NatOutput,
    /// Sees every packet that leaves, after the rewrite.
    FilterOutput,
    /// Sees every packet that arrives.
    FilterInput,
}

impl Ruleset {
    /// The rules of a pod: all TCP that leaves, but the proxy's own, loopback, local addresses and what is skipped.
    #[must_use]
    pub fn pod(rules: &PodRules) -> Self {
        let addresses = |of_ipv4: bool| {
            let blocks = rules.skip_cidrs.iter().filter(|c| c.is_ipv4() == of_ipv4);
            merged(blocks.map(Cidr::range))
        };
        let ports = rules.skip_ports.iter().map(PortRange::range);
        let ports =
            merged(ports.map(|range| u128::from(*range.start())..=u128::from(*range.end())));
        let sets = [
            ("skipports", RangeKind::Port, ports),
            ("skip4", RangeKind::Ipv4, addresses(true)),
            ("skip6", RangeKind::Ipv6, addresses(false)),
        ];
        // Sets that would be empty are left out, and so are their rules.
        let sets: Vec<_> = sets
            .into_iter()
            .filter(|(_, _, ranges)| !ranges.is_empty())
            .map(|(name, kind, ranges)| RangeSet { name, kind, ranges })
            .collect();

        let mut output = vec![
            returns(Match::ne(Field::L4Proto, TCP)),
            from_uid(rules.proxy_uid).then(Verdict::Return),
            returns(Match::eq(Field::Oifname, "lo")),
            returns(Match::eq(
                Field::Fib {
                    flags: FibFlags::DADDR,
                    result: FibResult::AddrType,
                },
                RouteType::Local,
            )),
        ];
        output.extend(
            sets.iter()
                .map(|set| returns(Match::eq(set.kind.field(), Value::set(set.name)))),
        );
        output.push(redirect(
            Match::eq(Field::L4Proto, TCP),
            rules.redirect_port,
        ));
        let mut chains = vec![HookedChain {
            name: "output",
            kind: ChainKind::NatOutput,
            rules: output,
        }];
        if rules.drop_invalid {
            chains.push(HookedChain {
                name: "invalid",
                kind: ChainKind::FilterInput,
                rules: vec![drop_invalid()],
            });
        }
        Self { sets, chains }
    }

    /// The rules of an application's own namespace: all its TCP, loopback too, and DNS over UDP go to `port`.
    ///
    /// Other UDP to anywhere but loopback is refused, so that QUIC clients fall back to TCP without waiting. Between
    /// the application's own processes UDP on loopback is left alone.
    #[must_use]
    pub fn namespace(port: u16) -> Self {
        let loopback = Value::Prefix(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8);
        Self {
            sets: Vec::new(),
            chains: vec![
                HookedChain {
                    name: "output",
                    kind: ChainKind::NatOutput,
                    rules: vec![
                        returns(Match::eq(Field::Mark, BYPASS_MARK)),
                        redirect(Match::eq(Field::L4Proto, TCP), port),
                        redirect(Match::eq(Field::UdpDport, DNS), port),
                    ],
                },
                HookedChain {
                    name: "refuse",
                    kind: ChainKind::FilterOutput,
                    rules: vec![
                        returns(Match::eq(Field::L4Proto, TCP)),
                        returns(Match::eq(Field::Ip4Daddr, loopback)),
                        returns(Match::eq(Field::Ip6Daddr, Ipv6Addr::LOCALHOST)),
                        // Answers of our DNS socket, whatever address the question came from.
                        returns(Match::eq(Field::CtDirection, CtDirection::Reply)),
                        RuleSpec::new()
                            .then(Stmt::Counter)
                            .then(Stmt::Reject(Reject::Icmpx(
                                nlink::netlink::nftables::IcmpxCode::PortUnreachable,
                            ))),
                    ],
                },
            ],
        }
    }

    /// Adds to `transaction` what replaces whatever table of ours there is by this one, as one step.
    ///
    /// # Errors
    /// When a rule cannot be encoded, which a test rules out for every rule here.
    pub fn replace(&self, transaction: Transaction) -> nlink::Result<Transaction> {
        // Creating a table that exists changes nothing, and so makes the deletion after it safe on a first run.
        let mut transaction = transaction
            .update_table(TABLE, Family::Inet, 0)
            .del_table(TABLE, Family::Inet)
            .add_table(TABLE, Family::Inet);
        for set in &self.sets {
            let declared = Set::new(TABLE, set.name)
                .family(Family::Inet)
                .key_type(set.kind.key_type())
                .interval();
            transaction = transaction
                .add_set(declared.clone())
                .add_set_elements(&declared, &set.elements());
        }
        for chain in &self.chains {
            transaction = transaction.add_chain(
                Chain::new(TABLE, chain.name)?
                    .family(Family::Inet)
                    .base(chain.kind.base()),
            );
            for rule in &chain.rules {
                let rule = Rule::from_spec(TABLE, chain.name, rule.clone()).family(Family::Inet);
                transaction = transaction.add_rule(rule);
            }
        }
        Ok(transaction)
    }
}

/// As `nft -s list table inet weir` prints it, apart from white space.
impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {TABLE} {{")?;
        for set in &self.sets {
            writeln!(f, "  set {} {{", set.name)?;
            writeln!(f, "    type {}", set.kind.name())?;
            writeln!(f, "    flags interval")?;
            writeln!(f, "    elements = {{ {} }}", set.texts().join(", "))?;
            writeln!(f, "  }}")?;
        }
        for chain in &self.chains {
            writeln!(f, "  chain {} {{", chain.name)?;
            writeln!(f, "    {}", chain.kind.declaration())?;
            for rule in &chain.rules {
                let text = rule.nft_syntax_stateless(Family::Inet).ok_or(fmt::Error)?;
                writeln!(f, "    {text}")?;
            }
            writeln!(f, "  }}")?;
        }
        write!(f, "}}")
    }
}

impl ChainKind {
    fn base(self) -> BaseChain {
        match self {
            Self::NatOutput => BaseChain::nat(NatHook::Output, Priority::DstNat),
            Self::FilterOutput => BaseChain::filter(FilterHook::Output, Priority::Filter),
            Self::FilterInput => BaseChain::filter(FilterHook::Input, Priority::Filter),
        }
        .policy(Policy::Accept)
    }

    fn declaration(self) -> &'static str {
        match self {
            Self::NatOutput => "type nat hook output priority -100; policy accept;",
            Self::FilterOutput => "type filter hook output priority filter; policy accept;",
            Self::FilterInput => "type filter hook input priority filter; policy accept;",
        }
    }
}

impl RangeKind {
    fn key_type(self) -> SetKeyType {
        match self {
            Self::Ipv4 => SetKeyType::Ipv4Addr,
            Self::Ipv6 => SetKeyType::Ipv6Addr,
            Self::Port => SetKeyType::InetService,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4_addr",
            Self::Ipv6 => "ipv6_addr",
            Self::Port => "inet_service",
        }
    }

    fn field(self) -> PacketField {
        match self {
            Self::Ipv4 => PacketField::Ip4Daddr,
            Self::Ipv6 => PacketField::Ip6Daddr,
            Self::Port => PacketField::TcpDport,
        }
    }
}

impl RangeSet {
    fn elements(&self) -> Vec<SetElement> {
        let element = |range: &RangeInclusive<u128>| {
            SetElement::range(self.key(*range.start()), self.key(*range.end()))
        };
        self.ranges.iter().map(element).collect()
    }

    /// A bound as the kernel compares it: big-endian, as wide as the key.
    fn key(&self, bound: u128) -> Vec<u8> {
        let width = match self.kind {
            RangeKind::Ipv4 => 4,
            RangeKind::Ipv6 => 16,
            RangeKind::Port => 2,
        };
        bound.to_be_bytes().into_iter().skip(16 - width).collect()
    }

    fn texts(&self) -> Vec<String> {
        let bound = |bound: u128| match self.kind {
            RangeKind::Ipv4 => u32::try_from(bound)
                .map(|bits| Ipv4Addr::from_bits(bits).to_string())
                .unwrap_or_default(),
            RangeKind::Ipv6 => Ipv6Addr::from_bits(bound).to_string(),
            RangeKind::Port => bound.to_string(),
        };
        let text = |range: &RangeInclusive<u128>| match (bound(*range.start()), bound(*range.end()))
        {
            (first, last) if first == last => first,
            (first, last) => format!("{first}-{last}"),
        };
        self.ranges.iter().map(text).collect()
    }
}

#[cfg(test)]
mod tests;
