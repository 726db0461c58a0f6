//! Resolves host names for deliveries, and drops every address that `webhooks/guard.rs` forbids.
//!
//! The check stands between resolution and connection: a name that was harmless when its endpoint was created may
//! resolve to a private address by now (DNS rebinding).

use std::{net::SocketAddr, sync::Arc};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::webhooks::forbidden;

/// A DNS resolver that returns only addresses to which deliveries are allowed.
pub(super) struct GuardedResolver {
    allow_private: bool,
}

impl GuardedResolver {
    pub(super) fn new(allow_private: bool) -> Arc<Self> {
        Arc::new(Self { allow_private })
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            // The client replaces port 0 with the port of the URL.
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let (refused, allowed): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|address| !allow_private && forbidden(address.ip()).is_some());
            if let (true, Some(refused)) =
                (allowed.is_empty(), refused.first().and_then(|one| forbidden(one.ip())))
            {
                return Err(refused.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}
