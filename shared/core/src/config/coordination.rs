//! Parses the settings of coordination through Redis, apart from locks: the sold-out channel and the rate limit.

use std::time::Duration;

use super::{ConfigError, Values};
use crate::{
    coordination::{CoordinationOptions, Rate},
    lock::LockOptions,
    store::DatabaseUrl,
};

/// Parses the settings. Coordination uses the first of the Redis nodes.
pub(super) fn options(
    values: &Values,
    database: &DatabaseUrl,
    locks: &LockOptions,
) -> Result<CoordinationOptions, ConfigError> {
    Ok(CoordinationOptions {
        redis_url: locks.redis_urls.first().cloned(),
        timeout: Duration::from_millis(values.number("BESPEAK_REDIS_TIMEOUT_MS", 1, 1_000)?),
        scope: scope(values, database)?,
        rate_limit: rate(values)?,
    })
}

/// The prefix of keys and channels for one database. Two databases may have resources of the same name, and a
/// resource that is sold out in one need not be sold out in the other, so processes share hints only if their URLs
/// name the same database in the same way.
fn scope(values: &Values, database: &DatabaseUrl) -> Result<String, ConfigError> {
    const PREFIX: &str = "BESPEAK_REDIS_PREFIX";
    let prefix = values.text(PREFIX);
    let legal = |c: char| c.is_ascii_alphanumeric() || "._:-".contains(c);
    if prefix.is_empty() || prefix.len() > 64 || !prefix.chars().all(legal) {
        return Err(values.error(PREFIX, "1 to 64 characters of A-Za-z0-9._:-"));
    }
    let url = database.url();
    let database = match url::Url::parse(url) {
        Ok(url) => {
            let place = (url.host_str().unwrap_or_default(), url.port().unwrap_or(3306));
            format!("{}://{}:{}{}", url.scheme(), place.0, place.1, url.path())
        }
        Err(_) => url.to_owned(),
    };
    let digest = blake3::hash(database.as_bytes()).to_hex();
    Ok(format!("{prefix}:{}", &digest.as_str()[..16]))
}

fn rate(values: &Values) -> Result<Option<Rate>, ConfigError> {
    const NAME: &str = "BESPEAK_RATE_LIMIT_PER_HOLDER";
    let text = values.text(NAME);
    if text == "none" {
        return Ok(None);
    }
    let parsed = text.split_once('/').and_then(|(requests, per)| {
        let requests = requests.parse().ok().filter(|requests| (1..=1_000_000).contains(requests))?;
        let unit = per.chars().last()?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 60 * 60,
            _ => return None,
        };
        let units: u64 = per[..per.len() - 1].parse().ok()?;
        let seconds = units.checked_mul(seconds).filter(|seconds| (1..=24 * 60 * 60).contains(seconds))?;
        Some(Rate { requests, per: Duration::from_secs(seconds) })
    });
    let expected = "none, or a number of requests (1 to 1000000) and a time (1s to 24h), such as 20/1s, 300/5m \
                    or 1000/1h";
    parsed.map(Some).ok_or_else(|| values.error(NAME, expected))
}
