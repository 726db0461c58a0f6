//! Parses the settings of webhooks: the endpoint of the environment, where deliveries may go, and the limits.

use std::{ops::RangeInclusive, time::Duration};

use super::{ConfigError, Values, http};
use crate::{
    engine::EventType,
    http_options::Compat,
    webhooks::{
        AllowHttp, Configured, DeliveryPolicy, EndpointUrl, EventFilter, Network, Secret, WebhookLimits,
        WebhookOptions,
    },
};

/// Parses the settings.
pub(super) fn options(values: &Values) -> Result<WebhookOptions, ConfigError> {
    let secret = "BESPEAK_WEBHOOK_SECRET";
    let policy = policy(values)?;
    let right_url =
        "an http or https URL without user, password or fragment, such as https://example.com/webhooks";
    let compat = http::compat(values)?;
    let url = environment_url(values, compat)?;
    let endpoint = match (values.text(url), values.text(secret)) {
        ("", "") => None,
        ("", _) => return Err(values.error(url, "set if BESPEAK_WEBHOOK_SECRET is set")),
        (_, "") if compat.is_none() => {
            return Err(values.error(secret, "set if BESPEAK_WEBHOOK_URL is set: see `bespeak config`"));
        }
        (text, key) => Some(Configured {
            url: EndpointUrl::parse(url, text).map_err(|_| values.error(url, right_url))?,
            secret: match key {
                "" => Secret::absent(),
                key => Secret::parse(secret, key).map_err(|_| values.error(secret, Secret::EXPECTED))?,
            },
            filter: compat.map(|Compat::OpenReserve| stock_events()),
        }),
    };
    if let Some(forbidden) = endpoint.iter().find_map(|endpoint| policy.refuses_url(&endpoint.url)) {
        return Err(values.error(url, format!("another: {forbidden}")));
    }
    let deliver = values.choice("BESPEAK_WEBHOOKS", &[("on", true), ("off", false)])?;
    Ok(WebhookOptions { endpoint, deliver, policy, limits: limits(values)? })
}

fn policy(values: &Values) -> Result<DeliveryPolicy, ConfigError> {
    let http = [("auto", AllowHttp::Auto), ("true", AllowHttp::Always), ("false", AllowHttp::Never)];
    let ports = "BESPEAK_WEBHOOK_ALLOW_PORTS";
    Ok(DeliveryPolicy {
        allow_private: values.choice("BESPEAK_WEBHOOK_ALLOW_PRIVATE", &[("true", true), ("false", false)])?,
        allow: networks(values, "BESPEAK_WEBHOOK_ALLOW_NETWORKS")?,
        deny: networks(values, "BESPEAK_WEBHOOK_DENY_NETWORKS")?,
        ports: parts(values, ports)
            .map(port_range)
            .collect::<Option<Vec<_>>>()
            .filter(|ranges| !ranges.is_empty())
            .ok_or_else(|| values.error(ports, "ports and ranges of ports, such as 443,8000-8999"))?,
        http: values.choice("BESPEAK_WEBHOOK_ALLOW_HTTP", &http)?,
    })
}

fn limits(values: &Values) -> Result<WebhookLimits, ConfigError> {
    let hours: u64 = values.number("BESPEAK_WEBHOOK_DISABLE_AFTER_HOURS", 1, 8_760)?;
    // Both are in the range of a u32.
    let count = |name, max| values.number(name, 1, max).map(|count| u32::try_from(count).unwrap_or(u32::MAX));
    Ok(WebhookLimits {
        endpoints_max: count("BESPEAK_WEBHOOK_ENDPOINTS_MAX", 10_000)?,
        pending_max: count("BESPEAK_WEBHOOK_PENDING_MAX", 10_000_000)?,
        disable_after: Duration::from_secs(hours * 60 * 60),
    })
}

/// The parts of a list, comma-separated; none if it is empty.
fn parts<'a>(values: &'a Values, name: &'static str) -> impl Iterator<Item = &'a str> {
    values.text(name).split(',').map(str::trim).filter(|part| !part.is_empty())
}

fn networks(values: &Values, name: &'static str) -> Result<Vec<Network>, ConfigError> {
    let expected =
        "networks in CIDR notation without bits behind the prefix, such as 10.1.0.0/16,fd00:1::/32";
    parts(values, name).map(Network::parse).collect::<Option<_>>().ok_or_else(|| values.error(name, expected))
}

fn port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (1 <= first && first <= last).then_some(first..=last)
}

/// The setting that names the URL of the environment's endpoint.
fn environment_url(values: &Values, compat: Option<Compat>) -> Result<&'static str, ConfigError> {
    const OWN: &str = "BESPEAK_WEBHOOK_URL";
    let enabled = values.choice("OPENRESERVE_WEBHOOKS_ENABLED", &[("true", true), ("false", false)])?;
    let is_other = compat.is_some() && enabled && values.text(OWN).is_empty();
    Ok(if is_other { "OPENRESERVE_WEBHOOKS_URL" } else { OWN })
}

/// The events that a receiver of OpenReserve knows.
fn stock_events() -> EventFilter {
    let patterns = [EventType::Depleted, EventType::Restored].map(EventType::as_str);
    // Both are types of events, so this does not fail.
    EventFilter::from_patterns("eventTypes", patterns).unwrap_or_default()
}
