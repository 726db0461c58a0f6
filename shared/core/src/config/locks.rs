//! Parses the settings of distributed locks, and the Redis nodes that may keep them.

use std::time::Duration;

use super::{ConfigError, Values};
use crate::{lock::LockOptions, secret_url::SecretUrl};

/// Parses the settings.
pub(super) fn options(values: &Values) -> Result<LockOptions, ConfigError> {
    const NODE: &str = "BESPEAK_LOCK_NODE_TIMEOUT_MS";
    let millis = |name, min, max| Ok(Duration::from_millis(values.number(name, min, max)?));
    let config = LockOptions {
        redis_urls: redis_urls(values)?,
        timeout: millis("BESPEAK_LOCK_TIMEOUT_MS", 1, 60_000)?,
        lease: millis("BESPEAK_LOCK_LEASE_MS", 100, 3_600_000)?,
        node_timeout: millis(NODE, 1, 60_000)?,
    };
    // Two rounds of calls to a node must leave most of the lease to the holder.
    if config.node_timeout * 4 > config.lease {
        return Err(values.error(NODE, "at most a quarter of BESPEAK_LOCK_LEASE_MS"));
    }
    Ok(config)
}

fn redis_urls(values: &Values) -> Result<Vec<SecretUrl>, ConfigError> {
    const NAME: &str = "BESPEAK_REDIS_URLS";
    let mut urls: Vec<SecretUrl> = Vec::new();
    for (place, text) in values.text(NAME).split(',').map(str::trim).enumerate() {
        if text.is_empty() && values.text(NAME).trim().is_empty() {
            break;
        }
        let wrong =
            |what: &str| Err(values.error(NAME, format!("{what} (URL {} of them is not)", place + 1)));
        let parsed = url::Url::parse(text).ok();
        let known =
            parsed.as_ref().is_some_and(|url| matches!(url.scheme(), "redis" | "rediss") && url.has_host());
        if !known {
            return wrong(
                "URLs such as redis://:PASSWORD@HOST:6379 or rediss://USER:PASSWORD@HOST:6379/0, comma-separated, \
                 with %2C for a comma in a password",
            );
        }
        let place_of = |url: &str| {
            let url = url::Url::parse(url).ok()?;
            Some((url.host_str()?.to_owned(), url.port().unwrap_or(6379)))
        };
        if urls.iter().any(|other| place_of(other) == place_of(text)) {
            return wrong("independent nodes, each named once");
        }
        urls.push(SecretUrl::new(text));
    }
    if !cfg!(feature = "redis") && !urls.is_empty() {
        return Err(
            values.error(NAME, "empty: this build has no Redis client; build it with the feature redis")
        );
    }
    Ok(urls)
}
