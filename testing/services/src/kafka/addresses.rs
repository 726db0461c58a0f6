//! The addresses of brokers: those that a new broker gets, and those that a URL names.
//!
//! Never: a connection.

use std::net::SocketAddr;

use crate::ServiceError;

/// The environment variable with the URL of running brokers.
pub(super) const VARIABLE: &str = "BESPEAK_TEST_KAFKA_URL";

/// The address at which a broker listens, and the address that it advertises to its clients.
#[derive(Clone, Copy)]
pub(super) struct Addresses {
    pub(super) listen: SocketAddr,
    pub(super) advertised: SocketAddr,
}

/// The brokers of a URL without topic and account: the part after `kafka://`.
pub(super) fn bootstrap_servers(url: &str) -> Result<String, ServiceError> {
    let brokers = url.strip_prefix("kafka://").map(|rest| rest.strip_suffix('/').unwrap_or(rest));
    let brokers = brokers.ok_or_else(|| invalid_url("the URL must begin with kafka://"))?;
    for broker in brokers.split(',') {
        let (host, port) = broker.rsplit_once(':').unwrap_or((broker, ""));
        if host.is_empty() || host.contains(['/', '@']) || port.parse::<u16>().is_err() {
            return Err(invalid_url(format!(
                "`{broker}` must be host:port, and the URL must not name a topic or an account"
            )));
        }
    }
    Ok(brokers.to_owned())
}

pub(super) fn invalid_url(reason: impl Into<String>) -> ServiceError {
    ServiceError::InvalidUrl { variable: VARIABLE, reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_urls_of_brokers_are_accepted() {
        assert_eq!(bootstrap_servers("kafka://a:1,b.example:9092").unwrap(), "a:1,b.example:9092");
        for wrong in [
            "localhost:9092",
            "kafka://",
            "kafka://a",
            "kafka://a:9092/topic",
            "kafka://u:p@a:1",
            "kafka://a:1,",
        ] {
            assert!(matches!(bootstrap_servers(wrong), Err(ServiceError::InvalidUrl { .. })), "{wrong}");
        }
    }
}
