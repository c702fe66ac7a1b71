//! Ranges of addresses and ports that the redirect leaves alone.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

/// A block of addresses, `10.0.0.0/8`; a bare address is a block of one. Host bits are cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// A run of ports, `3306` or `9000-9100`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// A list with commas between its entries; empty entries count for nothing, so an empty setting is an empty list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<T>(pub Vec<T>);

impl<T: FromStr> FromStr for List<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let entries = text.split(',').filter(|entry| !entry.trim().is_empty());
        entries.map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

/// A text that is no block of addresses, or no run of ports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseRangeError {
    /// Not an address, or a prefix too long for it.
    #[error(
        "`{0}` is not a block of addresses; expected one like 10.0.0.0/8, 192.0.2.7 or fd00::/8"
    )]
    Cidr(String),
    /// Not a port or two, from 1 to 65535, lower one first.
    #[error("`{0}` is not a port; expected one like 3306, or a range like 9000-9100")]
    Ports(String),
}

impl Cidr {
    /// Whether `address` is in the block.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(_), IpAddr::V4(v4)) => self.range().contains(&u128::from(v4.to_bits())),
            (IpAddr::V6(_), IpAddr::V6(v6)) => self.range().contains(&v6.to_bits()),
            _ => false,
        }
    }

    /// Whether it is a block of IPv4 addresses.
    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// First and last address, as numbers.
    #[must_use]
    pub fn range(&self) -> RangeInclusive<u128> {
        let (bits, width) = match self.address {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        };
        let host = host_mask(width - u32::from(self.prefix));
        (bits & !host)..=(bits | host)
    }
}

/// `bits` low bits set.
fn host_mask(bits: u32) -> u128 {
    1_u128.checked_shl(bits).map_or(u128::MAX, |bit| bit - 1)
}

impl FromStr for Cidr {
    type Err = ParseRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseRangeError::Cidr(text.to_owned());
        let (address, prefix) = match text.trim().split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text.trim(), None),
        };
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| bad())?,
            None => width,
        };
        if prefix > width {
            return Err(bad());
        }
        let first = *Self { address, prefix }.range().start();
        let address = if address.is_ipv4() {
            // The value came from 32 bits and only lost some.
            IpAddr::V4(Ipv4Addr::from_bits(
                u32::try_from(first).map_err(|_| bad())?,
            ))
        } else {
            IpAddr::V6(Ipv6Addr::from_bits(first))
        };
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl PortRange {
    /// Whether `port` is in the run.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.range().contains(&port)
    }

    /// First and last port.
    #[must_use]
    pub fn range(&self) -> RangeInclusive<u16> {
        self.first..=self.last
    }
}

impl FromStr for PortRange {
    type Err = ParseRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseRangeError::Ports(text.to_owned());
        let trimmed = text.trim();
        let (first, last) = trimmed.split_once('-').unwrap_or((trimmed, trimmed));
        let first: u16 = first.trim().parse().map_err(|_| bad())?;
        let last: u16 = last.trim().parse().map_err(|_| bad())?;
        if first == 0 || last < first {
            return Err(bad());
        }
        Ok(Self { first, last })
    }
}

/// Sorts ranges and merges those that overlap or touch: the kernel refuses sets whose ranges overlap.
#[must_use]
pub fn merged(ranges: impl IntoIterator<Item = RangeInclusive<u128>>) -> Vec<RangeInclusive<u128>> {
    let mut sorted: Vec<_> = ranges.into_iter().collect();
    sorted.sort_by_key(|range| (*range.start(), *range.end()));
    let mut out: Vec<RangeInclusive<u128>> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match out.last_mut() {
            Some(last) if *range.start() <= last.end().saturating_add(1) => {
                *last = *last.start()..=(*last.end()).max(*range.end());
            }
            _ => out.push(range),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_parsed_and_their_host_bits_cleared() {
        for (text, expected) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("169.254.169.254", "169.254.169.254/32"),
            (" 0.0.0.0/0 ", "0.0.0.0/0"),
            ("fd00::1/8", "fd00::/8"),
            ("::/0", "::/0"),
            ("2001:db8::1", "2001:db8::1/128"),
        ] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), expected);
        }
        for bad in [
            "",
            "10.0.0.0/33",
            "fd00::/129",
            "10.0.0/8",
            "10.0.0.0/-1",
            "a/8",
        ] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_block_contains_its_first_and_last_address_and_no_other_family() {
        let block: Cidr = "10.0.0.0/8".parse().unwrap();
        assert!(block.contains("10.0.0.0".parse().unwrap()));
        assert!(block.contains("10.255.255.255".parse().unwrap()));
        assert!(!block.contains("11.0.0.0".parse().unwrap()));
        assert!(!block.contains("::a00:0".parse().unwrap()));
    }

    #[test]
    fn ports_are_parsed_singly_and_as_ranges() {
        assert_eq!("3306".parse::<PortRange>().unwrap().range(), 3306..=3306);
        assert_eq!("90-91".parse::<PortRange>().unwrap().range(), 90..=91);
        for bad in ["", "0", "65536", "91-90", "1-2-3", "-"] {
            assert!(bad.parse::<PortRange>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_list_may_be_empty_and_has_no_bad_entry() {
        assert_eq!(" ".parse(), Ok(List::<Cidr>(Vec::new())));
        let list: List<PortRange> = "1, 2-3,".parse().unwrap();
        assert_eq!(list.0.len(), 2);
        assert!("1,x".parse::<List<PortRange>>().is_err());
    }

    #[test]
    fn ranges_that_overlap_or_touch_become_one() {
        let merged = merged([5..=9, 1..=2, 3..=4, 20..=30, 22..=25, u128::MAX..=u128::MAX]);
        assert_eq!(merged, [1..=9, 20..=30, u128::MAX..=u128::MAX]);
    }
}
