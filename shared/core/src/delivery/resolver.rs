//! Resolves host names for deliveries, and drops every address that `webhooks/policy.rs` refuses.
//!
//! The check stands between resolution and connection: a name that was harmless when its endpoint was created may
//! resolve to a private address by now (DNS rebinding).

use std::{net::SocketAddr, sync::Arc};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::webhooks::{DeliveryPolicy, Forbidden};

/// A DNS resolver that returns only addresses to which deliveries are allowed.
pub(super) struct GuardedResolver {
    policy: Arc<DeliveryPolicy>,
}

impl GuardedResolver {
    pub(super) fn new(policy: &DeliveryPolicy) -> Arc<Self> {
        Arc::new(Self { policy: Arc::new(policy.clone()) })
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.policy.clone();
        Box::pin(async move {
            // The client replaces port 0 with the port of the URL.
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(allowed(&policy, found)?.into_iter()) as Addrs)
        })
    }
}

/// The addresses of a name to which deliveries are allowed. A name may have others too, which are never connected to.
///
/// # Errors
/// None of them is allowed.
fn allowed(policy: &DeliveryPolicy, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Forbidden> {
    let mut refused = None;
    let mut allowed = found;
    allowed.retain(|address| {
        let forbidden = policy.refuses(address.ip());
        let is_allowed = forbidden.is_none();
        refused = refused.take().or(forbidden);
        is_allowed
    });
    match refused {
        Some(forbidden) if allowed.is_empty() => Err(forbidden),
        _ => Ok(allowed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_name_with_both_kinds_of_addresses_only_the_allowed_are_used() {
        let addresses = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| SocketAddr::new(text.parse().expect("an address"), 0)).collect()
        };
        let policy = DeliveryPolicy::default();
        let both = addresses(&["10.1.2.3", "1.1.1.1", "::ffff:127.0.0.1", "2606:4700::1111"]);
        let kept = allowed(&policy, both.clone()).expect("two are public");
        assert_eq!(kept, addresses(&["1.1.1.1", "2606:4700::1111"]));
        let none = allowed(&policy, addresses(&["10.1.2.3", "::1"])).expect_err("both are private");
        assert!(none.to_string().contains("10.1.2.3"), "{none}");
        assert_eq!(allowed(&policy, Vec::new()), Ok(Vec::new()));
        let open = DeliveryPolicy { allow_private: true, ..DeliveryPolicy::default() };
        assert_eq!(allowed(&open, both.clone()).expect("all are allowed"), both);
    }
}
