//! The configuration: one table of settings, each an environment variable and a flag of `bespeak serve`.
//!
//! A wrong value is one line that names the variable, the value and what would be right. Never: defaults anywhere else.

mod coordination;
mod events;
mod locks;
mod otlp;
mod settings;
mod strategy;
mod values;
mod webhooks;

use std::{net::SocketAddr, sync::Arc, time::Duration};

pub use settings::{SETTINGS, Setting};
pub use values::{ConfigError, Source, Values, unknown_variables};

use crate::{
    background::{Retention, RunUntil},
    coordination::CoordinationOptions,
    dispatch::{self, Strategy},
    engine::Limits,
    events::EventLog,
    http_options::HttpOptions,
    lock::LockOptions,
    store::DatabaseUrl,
    telemetry::{LogFormat, OtlpOptions},
    webhooks::WebhookOptions,
};

/// The parsed configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where the books are.
    pub database: DatabaseUrl,
    /// How many connections serve reads.
    pub read_connections: u32,
    /// How many connections write, at most; `SQLite` has one.
    pub write_connections: u32,
    /// How concurrent reservations are kept apart.
    pub strategy: Strategy,
    /// How distributed locks are taken, by strategies that take any.
    pub locks: LockOptions,
    /// What processes share through Redis besides locks.
    pub coordination: CoordinationOptions,
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
    pub webhooks: WebhookOptions,
    /// How long a scheduled function goes on that was not told so by its event.
    pub cron_until: RunUntil,
    /// What HTTP accepts.
    pub http: HttpOptions,
    /// Which log lines are written, in the notation of `tracing_subscriber::EnvFilter`.
    pub log: String,
    /// How they are written.
    pub log_format: LogFormat,
    /// Where spans are exported to.
    pub otlp: Option<OtlpOptions>,
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
        let database = DatabaseUrl::parse(values.text("BESPEAK_DATABASE_URL"))
            .map_err(|invalid| values.error("BESPEAK_DATABASE_URL", invalid.expected))?;
        let strategy = strategy::strategy(values)?;
        let locks = locks::options(values)?;
        if strategy == Strategy::Redlock && locks.redis_urls.is_empty() {
            return Err(
                values.error("BESPEAK_REDIS_URLS", "set for the strategy redlock: the URLs of its nodes")
            );
        }
        let Lanes { lanes, write_connections } = lanes(values, &database, strategy)?;
        let on_or_off = [("on", true), ("off", false)];
        Ok(Self {
            events: events::log(values)?,
            events_source: events::source(values)?,
            relay: values.choice("BESPEAK_RELAY", &on_or_off)?,
            consumer: values.choice("BESPEAK_CONSUMER", &on_or_off)?,
            listen,
            read_connections: values.connections("BESPEAK_READ_CONNECTIONS")?,
            write_connections,
            strategy,
            coordination: coordination::options(values, &database, &locks)?,
            database,
            locks,
            lanes,
            lane_batch: values.size("BESPEAK_LANE_BATCH", 1, 10_000)?,
            lane_queue: values.size("BESPEAK_LANE_QUEUE", 1, 1_000_000)?,
            limits: limits(values)?,
            retention: retention(values)?,
            webhooks: webhooks::options(values)?,
            cron_until: values
                .choice("BESPEAK_CRON_UNTIL", &[("deadline", RunUntil::Stopped), ("idle", RunUntil::Idle)])?,
            http: http(values)?,
            log: values.text("BESPEAK_LOG").to_owned(),
            log_format: values
                .choice("BESPEAK_LOG_FORMAT", &[("text", LogFormat::Text), ("json", LogFormat::Json)])?,
            otlp: otlp::options(values)?,
        })
    }

    /// The same with another strategy, of which no setting need know: for the lock lab, which runs every one of them, also
    /// those that oversell. Not for `serve`.
    #[must_use]
    pub fn with_strategy(self, strategy: Strategy) -> Self {
        Self { strategy, ..self }
    }

    /// How commands share transactions.
    pub fn dispatch_plan(&self) -> dispatch::Plan {
        match self.strategy {
            Strategy::Lanes => dispatch::Plan::Lanes { lanes: self.lanes, batch: self.lane_batch },
            _ => dispatch::Plan::Unbatched { at_once: self.write_connections as usize },
        }
    }
}

struct Lanes {
    lanes: usize,
    write_connections: u32,
}

/// How many lanes and write connections there are, which depends on the database and the strategy.
fn lanes(values: &Values, database: &DatabaseUrl, strategy: Strategy) -> Result<Lanes, ConfigError> {
    let (lanes, write_connections) = match database {
        DatabaseUrl::Sqlite(_) if !strategy.is_of_sqlite() => {
            return Err(values.error("BESPEAK_STRATEGY", "lanes or pessimistic with SQLite"));
        }
        // SQLite has one writer, so a second lane would only wait for the first.
        DatabaseUrl::Sqlite(_) => (values.size_or("BESPEAK_LANES", 1, 1, 1)?, 1),
        DatabaseUrl::Mysql(_) => {
            (values.size_or("BESPEAK_LANES", 8, 1, 256)?, values.connections("BESPEAK_WRITE_CONNECTIONS")?)
        }
    };
    if strategy == Strategy::Lanes && lanes > write_connections as usize {
        return Err(values.error("BESPEAK_LANES", "at most BESPEAK_WRITE_CONNECTIONS"));
    }
    Ok(Lanes { lanes, write_connections })
}

fn limits(values: &Values) -> Result<Limits, ConfigError> {
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
    Ok(limits)
}

fn http(values: &Values) -> Result<HttpOptions, ConfigError> {
    let request_timeout = values.number("BESPEAK_REQUEST_TIMEOUT_SECONDS", 1, 300)?;
    Ok(HttpOptions {
        body_bytes_max: values.size("BESPEAK_BODY_BYTES_MAX", 1024, 16 * 1024 * 1024)?,
        import_bytes_max: values.size("BESPEAK_IMPORT_BYTES_MAX", 1024, 64 * 1024 * 1024)?,
        request_timeout: Duration::from_secs(request_timeout),
        base_path: base_path(values)?,
    })
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

#[cfg(test)]
mod tests;
