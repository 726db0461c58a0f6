//! Parses the settings of the HTTP API and its listener.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::{ConfigError, Values};
use crate::http_options::{AllowedHosts, Compat, HttpOptions};

/// Parses the settings. `listen` is the address that the server listens on.
pub(super) fn options(values: &Values, listen: SocketAddr) -> Result<HttpOptions, ConfigError> {
    let seconds = |name| Ok(Duration::from_secs(values.number(name, 1, 300)?));
    let on_or_off = [("on", true), ("off", false)];
    Ok(HttpOptions {
        connections_max: values.size("BESPEAK_CONNECTIONS_MAX", 1, 1_000_000)?,
        head_bytes_max: values.size("BESPEAK_HEAD_BYTES_MAX", 8 * 1024, 1024 * 1024)?,
        body_bytes_max: values.size("BESPEAK_BODY_BYTES_MAX", 1024, 16 * 1024 * 1024)?,
        import_bytes_max: values.size("BESPEAK_IMPORT_BYTES_MAX", 1024, 64 * 1024 * 1024)?,
        request_timeout: seconds("BESPEAK_REQUEST_TIMEOUT_SECONDS")?,
        response_timeout: seconds("BESPEAK_RESPONSE_TIMEOUT_SECONDS")?,
        base_path: base_path(values)?,
        allowed_hosts: allowed_hosts(values, listen)?,
        trusts_trace: values.choice("BESPEAK_TRUST_TRACE", &[("always", true), ("never", false)])?,
        access_log: values.choice("BESPEAK_ACCESS_LOG", &on_or_off)?,
        compat: compat(values)?,
    })
}

/// Parses the product whose interfaces are offered too.
pub(super) fn compat(values: &Values) -> Result<Option<Compat>, ConfigError> {
    values.choice("BESPEAK_COMPAT", &[("none", None), ("openreserve", Some(Compat::OpenReserve))])
}

fn base_path(values: &Values) -> Result<Arc<str>, ConfigError> {
    const NAME: &str = "BESPEAK_HTTP_BASE_PATH";
    let path = values.text(NAME);
    let legal = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
    let sound = path.is_empty()
        || (path.starts_with('/') && !path.ends_with('/') && !path.contains("//") && path.chars().all(legal));
    if sound { Ok(path.into()) } else { Err(values.error(NAME, "empty, or a path such as /booking")) }
}

fn allowed_hosts(values: &Values, listen: SocketAddr) -> Result<AllowedHosts, ConfigError> {
    const NAME: &str = "BESPEAK_ALLOWED_HOSTS";
    match values.text(NAME) {
        "auto" if listen.ip().is_loopback() => Ok(AllowedHosts::Loopback),
        "auto" | "any" => Ok(AllowedHosts::Any),
        list => {
            let hosts = list.split(',').map(|host| host.trim().to_ascii_lowercase());
            let hosts: Vec<String> = hosts.map(|host| host.trim_matches(['[', ']']).to_owned()).collect();
            let legal = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
            let is_host = |host: &String| {
                // A name has no port; an IPv6 address has colons.
                let is_name = !host.contains(':') || host.parse::<std::net::Ipv6Addr>().is_ok();
                !host.is_empty() && host.chars().all(legal) && is_name
            };
            if hosts.iter().all(is_host) {
                return Ok(AllowedHosts::Listed(hosts.into()));
            }
            let expected = "auto, any, or names and addresses without ports, such as shop.example,127.0.0.1";
            Err(values.error(NAME, expected))
        }
    }
}
