//! Parses the settings of the export of spans.

use super::{ConfigError, Values};
use crate::{secret_url::SecretUrl, telemetry::OtlpOptions};

/// Parses the settings; `None` if spans are not exported.
pub(super) fn options(values: &Values) -> Result<Option<OtlpOptions>, ConfigError> {
    const RATIO: &str = "BESPEAK_OTLP_SAMPLE_RATIO";
    const ENDPOINT: &str = "BESPEAK_OTLP_ENDPOINT";
    let sample_ratio = values.text(RATIO).parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    let sample_ratio =
        sample_ratio.ok_or_else(|| values.error(RATIO, "a number from 0 to 1, such as 0.01"))?;
    let endpoint = values.text(ENDPOINT);
    if endpoint.is_empty() {
        return Ok(None);
    }
    let is_base =
        |url: &url::Url| matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none();
    if !url::Url::parse(endpoint).is_ok_and(|url| is_base(&url)) {
        return Err(values.error(ENDPOINT, "the base URL of a collector, such as http://127.0.0.1:4318"));
    }
    Ok(Some(OtlpOptions { endpoint: SecretUrl::new(endpoint), sample_ratio }))
}
