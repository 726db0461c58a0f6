//! Parses the settings of webhooks: the endpoint of the environment, and the allowed addresses.

use super::{ConfigError, Values, http};
use crate::{
    engine::EventType,
    http_options::Compat,
    webhooks::{Configured, EndpointUrl, EventFilter, Secret, WebhookOptions},
};

/// Parses the settings.
pub(super) fn options(values: &Values) -> Result<WebhookOptions, ConfigError> {
    let secret = "BESPEAK_WEBHOOK_SECRET";
    let allow_private =
        values.choice("BESPEAK_WEBHOOK_ALLOW_PRIVATE", &[("true", true), ("false", false)])?;
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
    let refused = endpoint.iter().filter(|_| !allow_private).find_map(|endpoint| endpoint.url.forbidden());
    if let Some(forbidden) = refused {
        return Err(values.error(url, format!("another address: {forbidden}")));
    }
    let deliver = values.choice("BESPEAK_WEBHOOKS", &[("on", true), ("off", false)])?;
    Ok(WebhookOptions { endpoint, deliver, allow_private })
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
