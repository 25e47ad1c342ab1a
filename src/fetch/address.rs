//! Which addresses may be fetched from. Pure: it decides about addresses, and looks nothing up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Blocks of IPv4 that lead nowhere public: this network, private, shared (CGNAT), loopback, link-local (where clouds
/// keep their metadata), protocol assignments, documentation, 6to4 relays, benchmarks, multicast, reserved, and the
/// one address by which Azure's hosts are asked.
const PRIVATE_V4: &[(Ipv4Addr, u32)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 3),
];

/// Blocks inside IPv6's global unicast space that are not public: protocol assignments (Teredo, ORCHID, benchmarks
/// among them) and documentation.
const PRIVATE_V6: &[(Ipv6Addr, u32)] = &[
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

const GLOBAL_UNICAST: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
const SIX_TO_FOUR: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16);
const MAPPED: (Ipv6Addr, u32) = (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96);
const NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// Whether an address belongs to the public internet, the IPv4 address inside it included.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !PRIVATE_V4.iter().any(|block| is_in_v4(address, *block)),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let bits = address.to_bits();
    let embedded = |shift: u32| IpAddr::V4(Ipv4Addr::from_bits((bits >> shift) as u32));
    if is_in_v6(address, MAPPED) || is_in_v6(address, NAT64) {
        return is_public(embedded(0));
    }
    if is_in_v6(address, SIX_TO_FOUR) {
        return is_public(embedded(80));
    }
    is_in_v6(address, GLOBAL_UNICAST) && !PRIVATE_V6.iter().any(|block| is_in_v6(address, *block))
}

fn is_in_v4(address: Ipv4Addr, (network, bits): (Ipv4Addr, u32)) -> bool {
    let mask = u32::MAX << (32 - bits);
    address.to_bits() & mask == network.to_bits() & mask
}

fn is_in_v6(address: Ipv6Addr, (network, bits): (Ipv6Addr, u32)) -> bool {
    let mask = u128::MAX << (128 - bits);
    address.to_bits() & mask == network.to_bits() & mask
}

/// A host that may be fetched from although its address is private: `wiki.internal` (ports 80 and 443),
/// `wiki.internal:8080`, or `*.internal` for every host below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    /// In lower case; without the brackets of IPv6.
    name: String,
    is_suffix: bool,
    port: Option<u16>,
}

#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no host pattern; write host, host:port, *.domain or [IPv6]:port")]
pub struct BadHostPattern(String);

impl FromStr for HostPattern {
    type Err = BadHostPattern;

    fn from_str(text: &str) -> Result<Self, BadHostPattern> {
        let bad = || BadHostPattern(text.to_owned());
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (name, rest) = rest.split_once(']').ok_or_else(bad)?;
                (name, rest.strip_prefix(':'))
            }
            None => match text.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (text, None),
            },
        };
        let port = port.map(|port| port.parse().map_err(|_| bad()));
        let (name, is_suffix) = match name.strip_prefix('*') {
            Some(suffix) if suffix.starts_with('.') => (suffix, true),
            Some(_) => return Err(bad()),
            None => (name, false),
        };
        let is_name = |c: char| c.is_alphanumeric() || "-._:".contains(c);
        if name.is_empty() || !name.chars().all(is_name) {
            return Err(bad());
        }
        Ok(Self {
            name: name.to_lowercase(),
            is_suffix,
            port: port.transpose()?,
        })
    }
}

impl HostPattern {
    /// Whether this host, without brackets, is meant at this port.
    pub fn matches(&self, host: &str, port: u16) -> bool {
        let host = host.to_lowercase();
        let is_name = match self.is_suffix {
            true => host.ends_with(&self.name),
            false => host == self.name,
        };
        is_name && self.port.map_or(is_web_port(port), |own| own == port)
    }
}

/// The pattern that means this host, without brackets, at this port.
pub fn pattern_of(host: &str, port: u16) -> String {
    let host = match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    };
    match is_web_port(port) {
        true => host,
        false => format!("{host}:{port}"),
    }
}

/// Whether the web is served there by custom: other ports may be anything.
pub fn is_web_port(port: u16) -> bool {
    matches!(port, 80 | 443)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:a00:1::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.167.0.1",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
            "2606:4700::1111",
            "2a00:1450::200e",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn the_pattern_of_a_host_allows_it() {
        for (host, port, pattern) in [
            ("wiki", 443, "wiki"),
            ("127.0.0.1", 8511, "127.0.0.1:8511"),
            ("::1", 80, "[::1]"),
            ("fd00::1", 3000, "[fd00::1]:3000"),
        ] {
            assert_eq!(pattern_of(host, port), pattern);
            let pattern = pattern.parse::<HostPattern>().unwrap();
            assert!(pattern.matches(host, port), "{pattern:?}");
        }
    }

    #[test]
    fn a_pattern_allows_its_host_and_port_and_nothing_else() {
        let matches = |pattern: &str, host: &str, port| {
            pattern.parse::<HostPattern>().unwrap().matches(host, port)
        };
        assert!(matches("wiki", "WIKI", 80));
        assert!(!matches("wiki", "wiki", 8080));
        assert!(matches("wiki:8080", "wiki", 8080));
        assert!(!matches("wiki:8080", "wiki", 80));
        assert!(matches("*.corp.example", "a.b.corp.example", 443));
        assert!(!matches("*.corp.example", "corp.example", 443));
        assert!(!matches("*.corp.example", "evilcorp.example", 443));
        assert!(matches("[::1]:3000", "::1", 3000));
        for bad in ["", "*", "*corp", "a b", "http://x", "host:port", "[::1"] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
        }
    }
}
