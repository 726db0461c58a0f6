//! Where deliveries may go: networks, ports and schemes, as the configuration allows them.
//!
//! The public internet is allowed, and every address in `guard.rs` is forbidden, unless the configuration names its
//! network or allows all of them. A denied network wins over every permission.

use std::{fmt, net::IpAddr, ops::RangeInclusive};

use super::{EndpointUrl, Forbidden, forbidden, guard::destination};

/// A network in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    /// The length of the prefix, in bits.
    length: u32,
}

/// Addresses that give out the credentials of a machine in a cloud, or that only its neighbours reach. A wider network
/// in the configuration (`0.0.0.0/0`) does not open them: they must be named.
const NAMED_ONLY: [(&str, &str); 4] = [
    ("169.254.0.0/16", "IPv4 link-local, with the metadata services of clouds"),
    ("168.63.129.16/32", "the agent of an Azure machine"),
    ("fe80::/10", "IPv6 link-local"),
    ("fd00:ec2::/32", "the services of an AWS machine"),
];

impl Network {
    /// Parses `10.1.0.0/16`, or an address, which is a network of its own. Bits behind the prefix must be zero.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            Some(length) if length.bytes().all(|byte| byte.is_ascii_digit()) => length.parse().ok()?,
            Some(_) => return None,
            None => bits,
        };
        let network = Self { address, length };
        (length <= bits && network.has_zero_host()).then_some(network)
    }

    fn has_zero_host(self) -> bool {
        match self.address {
            IpAddr::V4(v4) => v4.to_bits().checked_shl(self.length).unwrap_or(0) == 0,
            IpAddr::V6(v6) => v6.to_bits().checked_shl(self.length).unwrap_or(0) == 0,
        }
    }

    /// Whether an address is in this network.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                (network.to_bits() ^ address.to_bits()).checked_shr(32 - self.length).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                (network.to_bits() ^ address.to_bits()).checked_shr(128 - self.length).unwrap_or(0) == 0
            }
            _ => false,
        }
    }

    /// Whether this network opens an address that is forbidden by default.
    fn opens(&self, address: IpAddr) -> bool {
        let named_only = NAMED_ONLY.iter().filter_map(|(text, _)| Self::parse(text));
        let mut around = named_only.filter(|network| network.contains(address));
        self.contains(address) && around.all(|network| self.length >= network.length)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// Whether `http` is allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AllowHttp {
    /// New endpoints may use it if they may be private; endpoints that exist may go on to use it.
    #[default]
    Auto,
    /// Every URL may use it.
    Always,
    /// No URL may use it, not even that of an existing endpoint.
    Never,
}

/// Where deliveries may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryPolicy {
    /// Whether every address is allowed that `guard.rs` forbids.
    pub allow_private: bool,
    /// Networks that are allowed although `guard.rs` forbids them.
    pub allow: Vec<Network>,
    /// Networks that are never allowed.
    pub deny: Vec<Network>,
    /// The allowed ports.
    pub ports: Vec<RangeInclusive<u16>>,
    /// Whether `http` is allowed.
    pub http: AllowHttp,
}

impl Default for DeliveryPolicy {
    /// The public internet, on the ports of web servers and on those that need no privilege.
    fn default() -> Self {
        Self {
            allow_private: false,
            allow: Vec::new(),
            deny: Vec::new(),
            ports: vec![80..=80, 443..=443, 1_024..=u16::MAX],
            http: AllowHttp::default(),
        }
    }
}

impl DeliveryPolicy {
    /// The reason why nothing is sent to an address.
    pub fn refuses(&self, address: IpAddr) -> Option<Forbidden> {
        let arrives_at = destination(address);
        let denied = |network: &Network| network.contains(address) || network.contains(arrives_at);
        if self.deny.iter().any(denied) {
            return Some(Forbidden::Denied(address));
        }
        let opened = self.allow_private || self.allow.iter().any(|network| network.opens(arrives_at));
        forbidden(address).filter(|_| !opened)
    }

    /// The reason why nothing is sent to a URL, as far as it is known before its name is resolved.
    pub fn refuses_url(&self, url: &EndpointUrl) -> Option<Forbidden> {
        let port = url.url().port_or_known_default().unwrap_or_default();
        if !self.ports.iter().any(|range| range.contains(&port)) {
            return Some(Forbidden::Port(port));
        }
        if self.http == AllowHttp::Never && url.url().scheme() == "http" {
            return Some(Forbidden::Http);
        }
        url.address().and_then(|address| self.refuses(address))
    }

    /// The reason why an endpoint may not be given a URL.
    pub fn refuses_new(&self, url: &EndpointUrl) -> Option<Forbidden> {
        self.refuses_url(url).or_else(|| {
            let may_be_private = match url.address() {
                Some(address) => forbidden(address).is_some(),
                None => self.allow_private || !self.allow.is_empty(),
            };
            let is_refused = self.http == AllowHttp::Auto && url.url().scheme() == "http" && !may_be_private;
            is_refused.then_some(Forbidden::Http)
        })
    }
}
