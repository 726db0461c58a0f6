//! The configuration: one table of settings, each an environment variable and a flag of `bespeak serve`.
//!
//! A wrong value is one line that names the variable, the value and what would be right. Never: defaults anywhere else.

mod events;
mod fleet;
mod locks;
mod otlp;
mod settings;
mod strategy;
mod webhooks;

use std::{collections::BTreeMap, fmt, net::SocketAddr, sync::Arc, time::Duration};

use crate::{engine::Limits, lanes, retention::Retention, telemetry::LogFormat, until::Until};
pub use events::{EventLog, KafkaConfig, Login, Security};
pub use fleet::FleetConfig;
pub use locks::LockConfig;
pub use otlp::OtlpConfig;
pub use settings::{SETTINGS, Setting};
pub use strategy::Strategy;
pub use webhooks::WebhookConfig;

/// A value that stops the start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The variable.
    pub name: &'static str,
    /// What it was set to; secrets hidden.
    pub value: String,
    /// What would be right.
    pub expected: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:?} is not valid: must be {}", self.name, self.value, self.expected)
    }
}

/// What kind of database keeps the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Database {
    Sqlite,
    Mysql,
}

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// The environment.
    Environment,
    /// A flag.
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::Environment => "environment",
            Self::Flag => "flag",
        })
    }
}

/// The text of every setting, not yet parsed.
#[derive(Clone, Debug)]
pub struct Values(BTreeMap<&'static str, (String, Source)>);

impl Values {
    /// Collects the settings: what `flag` gives wins over what `environment` gives, and that over the default. Both are
    /// asked by variable name.
    pub fn collect(
        flag: impl Fn(&str) -> Option<String>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let value = |setting: &Setting| {
            if let Some(value) = flag(setting.name) {
                (value, Source::Flag)
            } else if let Some(value) = environment(setting.name) {
                (value, Source::Environment)
            } else {
                (setting.default.to_owned(), Source::Default)
            }
        };
        Self(SETTINGS.iter().map(|setting| (setting.name, value(setting))).collect())
    }

    /// The settings of the process's environment.
    pub fn from_environment() -> Self {
        Self::collect(|_| None, |name| std::env::var(name).ok())
    }

    /// The settings of the process's environment, and where nobody set them, what this program takes for its defaults
    /// instead of the table's.
    pub fn from_environment_or(defaults: &[(&str, &str)]) -> Self {
        let default =
            |name: &str| defaults.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned());
        Self::collect(|_| None, |name| std::env::var(name).ok().or_else(|| default(name)))
    }

    /// A setting's text and where it came from, its password hidden.
    pub fn shown(&self, setting: &Setting) -> (String, Source) {
        let (value, source) = self.0.get(setting.name).cloned().unwrap_or((String::new(), Source::Default));
        (setting.without_secret(&value), source)
    }

    fn text(&self, name: &'static str) -> &str {
        debug_assert!(self.0.contains_key(name), "{name} is not in the table of settings");
        self.0.get(name).map_or("", |(value, _)| value)
    }

    fn error(&self, name: &'static str, expected: impl Into<String>) -> ConfigError {
        let opaque = SETTINGS.iter().find(|setting| setting.name == name && setting.opaque);
        let value = self.text(name);
        let value = opaque.map_or_else(|| without_password(value), |setting| setting.without_secret(value));
        ConfigError { name, value, expected: expected.into() }
    }

    fn number(&self, name: &'static str, min: u64, max: u64) -> Result<u64, ConfigError> {
        self.text(name)
            .parse()
            .ok()
            .filter(|number| (min..=max).contains(number))
            .ok_or_else(|| self.error(name, format!("a whole number from {min} to {max}")))
    }

    fn size(&self, name: &'static str, min: u64, max: u64) -> Result<usize, ConfigError> {
        let number = self.number(name, min, max)?;
        usize::try_from(number).map_err(|_| self.error(name, "smaller on this machine"))
    }

    /// A size, or what `auto` stands for.
    fn size_or(&self, name: &'static str, auto: usize, min: u64, max: u64) -> Result<usize, ConfigError> {
        if self.text(name) == "auto" {
            return Ok(auto);
        }
        self.size(name, min, max).map_err(|_| {
            self.error(name, format!("auto or a whole number from {min} to {max} with this database"))
        })
    }

    fn connections(&self, name: &'static str) -> Result<u32, ConfigError> {
        // In the range of a u32.
        self.number(name, 1, 1_000).map(|number| u32::try_from(number).unwrap_or(1))
    }

    fn choice<T: Copy>(&self, name: &'static str, choices: &[(&str, T)]) -> Result<T, ConfigError> {
        choices.iter().find(|(text, _)| *text == self.text(name)).map(|(_, value)| *value).ok_or_else(|| {
            self.error(name, choices.iter().map(|(text, _)| *text).collect::<Vec<_>>().join(" or "))
        })
    }
}

/// A URL with its password hidden; other text as it is.
pub fn without_password(text: &str) -> String {
    match url::Url::parse(text) {
        Ok(mut url) if url.password().is_some() => {
            // A URL that has a password can have another.
            let _ = url.set_password(Some("***"));
            url.to_string()
        }
        // A password with characters that should have been escaped makes it no URL, or one of another host.
        _ => match (text.find("://"), text.rfind('@')) {
            (Some(scheme), Some(at)) if scheme + 3 <= at => {
                format!("{}***{}", &text[..scheme + 3], &text[at..])
            }
            _ => text.to_owned(),
        },
    }
}

/// A URL that may hold a password: it is given to those who connect, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl std::ops::Deref for SecretUrl {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_password(&self.0))
    }
}

/// The parsed configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where the books are.
    pub database_url: SecretUrl,
    /// How many connections serve reads.
    pub read_connections: u32,
    /// How many connections write, at most; `SQLite` has one.
    pub write_connections: u32,
    /// How concurrent reservations are kept apart.
    pub strategy: Strategy,
    /// How distributed locks are taken, by strategies that take any.
    pub locks: LockConfig,
    /// What processes share through Redis besides locks.
    pub fleet: FleetConfig,
    /// How many lanes.
    pub lanes: usize,
    /// How many commands one transaction takes at the most.
    pub lane_batch: usize,
    /// How many commands may wait, per lane.
    pub lane_queue: usize,
    /// What one request may ask for.
    pub limits: Limits,
    /// For how long things are kept.
    pub retention: Retention,
    /// Where events go.
    pub events: EventLog,
    /// What events say they come from: the CloudEvents `source`.
    pub events_source: String,
    /// Whether this process relays events from the outbox.
    pub relay: bool,
    /// Whether this process applies what the event log delivers.
    pub consumer: bool,
    /// Who is told of events.
    pub webhooks: WebhookConfig,
    /// How long a scheduled function goes on that was not told so by its event.
    pub cron_until: Until,
    /// What HTTP accepts.
    pub http: HttpConfig,
    /// Which log lines are written, in the notation of `tracing_subscriber::EnvFilter`.
    pub log: String,
    /// How they are written.
    pub log_format: LogFormat,
    /// Where spans are exported to.
    pub otlp: Option<OtlpConfig>,
}

/// What HTTP accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// The largest request body, in bytes.
    pub body_bytes_max: usize,
    /// The largest import, in bytes.
    pub import_bytes_max: usize,
    /// How long a client may take to send a request.
    pub request_timeout: Duration,
    /// What paths begin with in front of the API's own, without a slash at its end: a base-path mapping, or a mount of a
    /// proxy. It is stripped. Empty for none.
    pub base_path: Arc<str>,
}

impl Config {
    /// Parses the settings.
    ///
    /// # Errors
    /// The first value that is not valid, in the order of the table.
    pub fn parse(values: &Values) -> Result<Self, ConfigError> {
        let listen = values.text("BESPEAK_LISTEN");
        let listen = listen
            .parse()
            .map_err(|_| values.error("BESPEAK_LISTEN", "an address and a port, such as 127.0.0.1:8080"))?;
        let database_url = values.text("BESPEAK_DATABASE_URL").to_owned();
        let database = check_database_url(values, &database_url)?;
        let strategy = Strategy::parse(values)?;
        let locks = LockConfig::parse(values)?;
        if strategy == Strategy::Redlock && locks.redis_urls.is_empty() {
            return Err(
                values.error("BESPEAK_REDIS_URLS", "set for the strategy redlock: the URLs of its nodes")
            );
        }
        let lanes = match database {
            Database::Sqlite if !strategy.is_of_sqlite() => {
                return Err(values.error("BESPEAK_STRATEGY", "lanes or pessimistic with SQLite"));
            }
            // It has one writer, so a second lane would only wait for the first.
            Database::Sqlite => values.size_or("BESPEAK_LANES", 1, 1, 1)?,
            Database::Mysql => values.size_or("BESPEAK_LANES", 8, 1, 256)?,
        };
        let write_connections = match database {
            Database::Sqlite => 1,
            Database::Mysql => values.connections("BESPEAK_WRITE_CONNECTIONS")?,
        };
        if strategy == Strategy::Lanes && lanes > write_connections as usize {
            return Err(values.error("BESPEAK_LANES", "at most BESPEAK_WRITE_CONNECTIONS"));
        }
        let seconds_max = 366 * 24 * 60 * 60;
        let limits = Limits {
            quantity_max: values.number("BESPEAK_QUANTITY_MAX", 1, crate::engine::TOTAL_MAX)?,
            total_max: values.number("BESPEAK_TOTAL_MAX", 1, crate::engine::TOTAL_MAX)?,
            ttl_default_seconds: values.number("BESPEAK_TTL_DEFAULT_SECONDS", 1, seconds_max)?,
            ttl_max_seconds: values.number("BESPEAK_TTL_MAX_SECONDS", 1, seconds_max)?,
            life_max_seconds: values.number("BESPEAK_LIFE_MAX_SECONDS", 1, seconds_max)?,
            items_max: values.size("BESPEAK_ITEMS_MAX", 1, 1_000)?,
            holder_length_max: values.size("BESPEAK_HOLDER_LENGTH_MAX", 1, 128)?,
            metadata_bytes_max: values.size("BESPEAK_METADATA_BYTES_MAX", 2, 512 * 1024)?,
        };
        if limits.ttl_default_seconds > limits.ttl_max_seconds {
            return Err(values.error("BESPEAK_TTL_DEFAULT_SECONDS", "at most BESPEAK_TTL_MAX_SECONDS"));
        }
        if limits.life_max_seconds < limits.ttl_max_seconds {
            return Err(values.error("BESPEAK_LIFE_MAX_SECONDS", "at least BESPEAK_TTL_MAX_SECONDS"));
        }
        let on_or_off = [("on", true), ("off", false)];
        Ok(Self {
            events: events::parse(values)?,
            events_source: events::source(values)?,
            relay: values.choice("BESPEAK_RELAY", &on_or_off)?,
            consumer: values.choice("BESPEAK_CONSUMER", &on_or_off)?,
            listen,
            database_url: SecretUrl(database_url),
            read_connections: values.connections("BESPEAK_READ_CONNECTIONS")?,
            write_connections,
            strategy,
            fleet: FleetConfig::parse(values, &locks)?,
            locks,
            lanes,
            lane_batch: values.size("BESPEAK_LANE_BATCH", 1, 10_000)?,
            lane_queue: values.size("BESPEAK_LANE_QUEUE", 1, 1_000_000)?,
            limits,
            retention: retention(values)?,
            webhooks: WebhookConfig::parse(values)?,
            cron_until: values
                .choice("BESPEAK_CRON_UNTIL", &[("deadline", Until::Stopped), ("idle", Until::Idle)])?,
            http: HttpConfig {
                body_bytes_max: values.size("BESPEAK_BODY_BYTES_MAX", 1024, 16 * 1024 * 1024)?,
                import_bytes_max: values.size("BESPEAK_IMPORT_BYTES_MAX", 1024, 64 * 1024 * 1024)?,
                request_timeout: Duration::from_secs(values.number(
                    "BESPEAK_REQUEST_TIMEOUT_SECONDS",
                    1,
                    300,
                )?),
                base_path: base_path(values)?,
            },
            log: values.text("BESPEAK_LOG").to_owned(),
            log_format: values
                .choice("BESPEAK_LOG_FORMAT", &[("text", LogFormat::Text), ("json", LogFormat::Json)])?,
            otlp: OtlpConfig::parse(values)?,
        })
    }

    /// The same with another strategy, of which no setting need know: for the lock lab, which runs every one of them, also
    /// those that oversell. Not for `serve`.
    #[must_use]
    pub fn with_strategy(self, strategy: Strategy) -> Self {
        Self { strategy, ..self }
    }

    /// How commands share transactions.
    pub fn dispatch_plan(&self) -> lanes::Plan {
        match self.strategy {
            Strategy::Lanes => lanes::Plan::Lanes { lanes: self.lanes, batch: self.lane_batch },
            _ => lanes::Plan::Single { at_once: self.write_connections as usize },
        }
    }
}

fn base_path(values: &Values) -> Result<Arc<str>, ConfigError> {
    const NAME: &str = "BESPEAK_HTTP_BASE_PATH";
    let path = values.text(NAME);
    let legal = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
    let sound = path.is_empty()
        || (path.starts_with('/') && !path.ends_with('/') && !path.contains("//") && path.chars().all(legal));
    if sound { Ok(path.into()) } else { Err(values.error(NAME, "empty, or a path such as /booking")) }
}

fn retention(values: &Values) -> Result<Retention, ConfigError> {
    let hours = |name, min, max| Ok(Duration::from_secs(3_600 * values.number(name, min, max)?));
    let retention = Retention {
        reservations: hours("BESPEAK_RETENTION_HOURS", 72, 24 * 366 * 100)?,
        events: hours("BESPEAK_EVENT_RETENTION_HOURS", 1, 24 * 366 * 100)?,
        inbox: hours("BESPEAK_INBOX_RETENTION_HOURS", 1, 24 * 366 * 100)?,
        deliveries: hours("BESPEAK_WEBHOOK_RETENTION_HOURS", 1, 24 * 366 * 100)?,
    };
    if retention.events > retention.reservations {
        return Err(values.error("BESPEAK_EVENT_RETENTION_HOURS", "at most BESPEAK_RETENTION_HOURS"));
    }
    if retention.inbox < retention.events {
        return Err(values.error("BESPEAK_INBOX_RETENTION_HOURS", "at least BESPEAK_EVENT_RETENTION_HOURS"));
    }
    Ok(retention)
}

fn check_database_url(values: &Values, url: &str) -> Result<Database, ConfigError> {
    let wrong = |expected: &str| Err(values.error("BESPEAK_DATABASE_URL", expected));
    if url.starts_with("mysql:") {
        let names_database = url::Url::parse(url)
            .is_ok_and(|url| url.has_host() && url.path().len() > 1 && !url.path()[1..].contains('/'));
        if names_database {
            return Ok(Database::Mysql);
        }
        return wrong("a URL that names a database, such as mysql://user:password@host:3306/bespeak");
    }
    let Some(rest) = url.strip_prefix("sqlite:") else {
        return wrong("a URL such as sqlite://bespeak.db or mysql://user:password@host:3306/bespeak");
    };
    let path = rest.strip_prefix("//").unwrap_or(rest);
    let path = path.split('?').next().unwrap_or(path);
    if path.is_empty() || path.starts_with(":memory:") || rest.contains("mode=memory") {
        return wrong("the URL of a file, such as sqlite://bespeak.db: what was answered must survive");
    }
    Ok(Database::Sqlite)
}

/// Variables that start with `BESPEAK_` and are no setting, each with the setting that it may have meant.
pub fn unknown_variables<'a>(names: impl Iterator<Item = &'a str>) -> Vec<(String, Option<&'static str>)> {
    names
        .filter(|name| name.starts_with("BESPEAK_"))
        // What tests and the lock lab are told.
        .filter(|name| !name.starts_with("BESPEAK_TEST_") && !name.starts_with("BESPEAK_LAB_"))
        .filter(|name| SETTINGS.iter().all(|setting| setting.name != *name))
        .map(|name| {
            let nearest = SETTINGS
                .iter()
                .map(|setting| (strsim::damerau_levenshtein(setting.name, name), setting.name))
                .min()
                .filter(|(distance, _)| *distance <= 3);
            (name.to_owned(), nearest.map(|(_, setting)| setting))
        })
        .collect()
}

#[cfg(test)]
mod tests;
