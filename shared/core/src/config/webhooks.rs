//! Parses the settings of webhooks: the endpoint of the environment, and the allowed addresses.

use super::{ConfigError, Values};
use crate::webhooks::{Configured, EndpointUrl, Secret, WebhookOptions};

/// Parses the settings.
pub(super) fn options(values: &Values) -> Result<WebhookOptions, ConfigError> {
    let (url, secret) = ("BESPEAK_WEBHOOK_URL", "BESPEAK_WEBHOOK_SECRET");
    let allow_private =
        values.choice("BESPEAK_WEBHOOK_ALLOW_PRIVATE", &[("true", true), ("false", false)])?;
    let right_url =
        "an http or https URL without user, password or fragment, such as https://example.com/webhooks";
    let endpoint = match (values.text(url), values.text(secret)) {
        ("", "") => None,
        ("", _) => return Err(values.error(url, "set if BESPEAK_WEBHOOK_SECRET is set")),
        (_, "") => {
            return Err(values.error(secret, "set if BESPEAK_WEBHOOK_URL is set: see `bespeak config`"));
        }
        (text, key) => Some(Configured {
            url: EndpointUrl::parse(url, text).map_err(|_| values.error(url, right_url))?,
            secret: Secret::parse(secret, key).map_err(|_| values.error(secret, Secret::EXPECTED))?,
        }),
    };
    let refused = endpoint.iter().filter(|_| !allow_private).find_map(|endpoint| endpoint.url.forbidden());
    if let Some(forbidden) = refused {
        return Err(values.error(url, format!("another address: {forbidden}")));
    }
    let deliver = values.choice("BESPEAK_WEBHOOKS", &[("on", true), ("off", false)])?;
    Ok(WebhookOptions { endpoint, deliver, allow_private })
}
