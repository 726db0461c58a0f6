//! The options of the HTTP API and its listener. The types belong to this crate because the settings do; they configure
//! the crate `bespeak-http`.

use std::{net::IpAddr, sync::Arc, time::Duration};

/// The options of the HTTP API and its listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpOptions {
    /// The largest number of connections of a listener.
    pub connections_max: usize,
    /// The largest head of a request, in bytes; at least 8 KiB.
    pub head_bytes_max: usize,
    /// The largest request body, in bytes.
    pub body_bytes_max: usize,
    /// The largest import, in bytes.
    pub import_bytes_max: usize,
    /// The time that a client may take to send the head of a request, and then its body.
    pub request_timeout: Duration,
    /// The time that a client may take to receive an answer.
    pub response_timeout: Duration,
    /// The prefix that is stripped from request paths, without a slash at its end: the base path of a gateway or the
    /// mount point of a proxy. Empty for none.
    pub base_path: Arc<str>,
    /// The hosts in whose name requests are accepted.
    pub allowed_hosts: AllowedHosts,
    /// Whether a request continues the trace that it names. Otherwise, each request begins a trace of its own, with a
    /// link to that one.
    pub trusts_trace: bool,
    /// Whether each answered request is logged.
    pub access_log: bool,
    /// The product whose interfaces are offered beside those of Bespeak.
    pub compat: Option<Compat>,
}

/// A product whose clients, dashboards and probes can be pointed at Bespeak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compat {
    /// OpenReserve (<https://github.com/Alidmo/OpenReserve>).
    OpenReserve,
}

/// The hosts that the header `Host` of a request may name.
///
/// A web page can make its own name resolve to 127.0.0.1, and then calls this server as its own origin (DNS rebinding);
/// the browser still sends the page's name as the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedHosts {
    /// Any host.
    Any,
    /// `localhost`, names below it, and loopback addresses.
    Loopback,
    /// These names and addresses, in lower case and without ports.
    Listed(Arc<[String]>),
}

impl AllowedHosts {
    /// Whether requests for a host are accepted. `host` may have a port.
    pub fn allow(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Loopback => is_loopback(&without_port(host)),
            Self::Listed(hosts) => hosts.contains(&without_port(host)),
        }
    }
}

/// The host in lower case, without its port, without the brackets of an IPv6 address, and without the dot of the root.
fn without_port(host: &str) -> String {
    let host = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _port)) => address,
        None => host.split_once(':').filter(|(_, port)| !port.contains(':')).map_or(host, |(host, _)| host),
    };
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "api.localhost",
            "localhost.",
            "127.0.0.1",
            "127.1.2.3:80",
            "[::1]:1",
            "::1",
        ] {
            assert!(AllowedHosts::Loopback.allow(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "notlocalhost",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "0.0.0.0",
            "[::2]:1",
            "",
            "2130706433",
        ] {
            assert!(!AllowedHosts::Loopback.allow(host), "{host}");
        }
    }

    #[test]
    fn listed_hosts_are_compared_without_port_and_case() {
        let listed = AllowedHosts::Listed(["shop.example".to_owned(), "::1".to_owned()].into());
        assert!(listed.allow("Shop.Example:443") && listed.allow("[::1]"));
        assert!(!listed.allow("localhost") && !listed.allow("a.shop.example"));
        assert!(AllowedHosts::Any.allow("anything"));
    }
}
