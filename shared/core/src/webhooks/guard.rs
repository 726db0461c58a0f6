//! The addresses that deliveries never go to, so that a client that may create endpoints cannot reach hosts that only
//! this machine can reach (SSRF).
//!
//! The check applies to the address of the connection, after names are resolved: a name that was harmless when the
//! endpoint was created may resolve to another address by now. The ranges are those of the IANA's special-purpose
//! registries (<https://www.iana.org/assignments/iana-ipv4-special-registry>,
//! <https://www.iana.org/assignments/iana-ipv6-special-registry>).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Forbidden IPv4 networks: first address, prefix length in bits, description.
const V4: [(Ipv4Addr, u32, &str); 19] = [
    (Ipv4Addr::UNSPECIFIED, 8, "this network"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "a private network"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "a carrier's network"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "this machine"),
    // Not in the registry: the agent of a machine in Azure, which gives out credentials like 169.254.169.254
    // (<https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16>).
    (Ipv4Addr::new(168, 63, 129, 16), 32, "the agent of an Azure machine"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "the local link"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "a private network"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "reserved for protocols"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "for documentation"),
    (Ipv4Addr::new(192, 31, 196, 0), 24, "reserved for protocols"),
    (Ipv4Addr::new(192, 52, 193, 0), 24, "reserved for protocols"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "a relay of 6to4"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "a private network"),
    (Ipv4Addr::new(192, 175, 48, 0), 24, "reserved for protocols"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "for benchmarks"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "for documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "for documentation"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved"),
];

/// Forbidden IPv6 networks within the global unicast addresses (2000::/3). Everything outside of these is forbidden
/// anyway.
const V6: [(Ipv6Addr, u32, &str); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "reserved for protocols"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "for documentation"),
    (Ipv6Addr::new(0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0), 48, "reserved for protocols"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "for documentation"),
];

/// The reason why nothing is sent to a URL or to an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// The address is of a network that is not allowed.
    #[error(
        "{address} is {what}; only BESPEAK_WEBHOOK_ALLOW_NETWORKS allows it, or BESPEAK_WEBHOOK_ALLOW_PRIVATE=true \
         every such address"
    )]
    Address {
        /// The address.
        address: IpAddr,
        /// The description of its network.
        what: &'static str,
    },
    /// The address is of a network that the configuration denies.
    #[error("{0} is in one of the networks of BESPEAK_WEBHOOK_DENY_NETWORKS")]
    Denied(IpAddr),
    /// The port is not allowed.
    #[error("port {0} is not one of BESPEAK_WEBHOOK_ALLOW_PORTS")]
    Port(u16),
    /// The scheme is `http`.
    #[error("the URL must begin with https://, because BESPEAK_WEBHOOK_ALLOW_HTTP does not allow http here")]
    Http,
}

/// The reason why nothing is sent to an address without a setting that allows it; `None` for an address of the public
/// internet.
pub fn forbidden(address: IpAddr) -> Option<Forbidden> {
    let what = match address {
        IpAddr::V4(address) => forbidden_v4(address),
        IpAddr::V6(address) => forbidden_v6(address),
    };
    what.map(|what| Forbidden::Address { address, what })
}

/// The address at which a packet arrives: the embedded IPv4 address, or the address itself.
pub(super) fn destination(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => embedded_v4(v6).map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

fn forbidden_v4(address: Ipv4Addr) -> Option<&'static str> {
    let bits = address.to_bits();
    let within = |network: &Ipv4Addr, length: u32| (bits ^ network.to_bits()) >> (32 - length) == 0;
    V4.iter().find(|(network, length, _)| within(network, *length)).map(|(_, _, what)| *what)
}

fn forbidden_v6(address: Ipv6Addr) -> Option<&'static str> {
    // A packet to such an address arrives at the embedded IPv4 address.
    if let Some(embedded) = embedded_v4(address) {
        return forbidden_v4(embedded);
    }
    let bits = address.to_bits();
    let within = |network: &Ipv6Addr, length: u32| (bits ^ network.to_bits()) >> (128 - length) == 0;
    if let Some((_, _, what)) = V6.iter().find(|(network, length, _)| within(network, *length)) {
        return Some(what);
    }
    if address.is_loopback() {
        return Some("this machine");
    }
    if address.is_multicast() {
        return Some("multicast");
    }
    if address.is_unicast_link_local() {
        return Some("the local link");
    }
    if address.is_unique_local() {
        return Some("a private network");
    }
    let global = address.segments()[0] >> 13 == 0b001;
    (!global).then_some("reserved")
}

/// The IPv4 address embedded in an IPv6 address: mapped (`::ffff:0:0/96`), of NAT64 (`64:ff9b::/96`), of 6to4
/// (`2002::/16`).
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return Some(mapped);
    }
    let v4 = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}
