//! The configuration: one table of settings, each of which is an environment variable and a flag of `bespeak serve`.
//!
//! The error of an invalid value is one line with the variable, the value and what would be right. Never: a default
//! anywhere else. Next: `settings.rs` for the table, `values.rs` for where values come from, and one file for each
//! group of settings.

mod coordination;
mod events;
mod http;
mod locks;
mod otlp;
mod setting;
mod settings;
mod strategy;
mod values;
mod webhooks;

use std::{net::SocketAddr, time::Duration};

pub use setting::{Secrecy, Setting};
pub use settings::SETTINGS;
pub use values::{ConfigError, Source, Values, unknown_variables};

use crate::{
    background::{Retention, RunUntil},
    coordination::CoordinationOptions,
    dispatch::{self, Strategy},
    engine::{Limits, ReportedStock},
    events::{EventLog, TopicRetention},
    http_options::{Compat, HttpOptions},
    lock::LockOptions,
    store::DatabaseUrl,
    telemetry::{LogFormat, OtlpOptions},
    webhooks::WebhookOptions,
};

/// The parsed configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address and port to listen on.
    pub listen: SocketAddr,
    /// The URL of the database.
    pub database: DatabaseUrl,
    /// How many automatic copies of an SQLite file are kept, each made before a migration.
    pub migration_backups: u32,
    /// How long the server still serves after SIGTERM while it reports that it is not ready.
    pub drain: Duration,
    /// The number of connections that serve reads.
    pub read_connections: u32,
    /// The largest number of connections that write; SQLite has one.
    pub write_connections: u32,
    /// The strategy that keeps concurrent reservations apart.
    pub strategy: Strategy,
    /// The options of distributed locks, for strategies that use them.
    pub locks: LockOptions,
    /// The options of coordination through Redis, apart from locks.
    pub coordination: CoordinationOptions,
    /// The number of lanes.
    pub lanes: usize,
    /// The largest number of commands in one transaction.
    pub lane_batch: usize,
    /// The largest number of waiting commands: per lane, or in total for strategies without lanes.
    pub lane_queue: usize,
    /// The limits of one request.
    pub limits: Limits,
    /// How long records are kept.
    pub retention: Retention,
    /// The event log.
    pub events: EventLog,
    /// The CloudEvents `source` of events.
    pub events_source: String,
    /// Whether this process relays events from the outbox.
    pub relay: bool,
    /// Whether this process applies the events of the event log.
    pub consumer: bool,
    /// The options of webhooks.
    pub webhooks: WebhookOptions,
    /// How long a scheduled function runs, if its event does not say so.
    pub cron_until: RunUntil,
    /// The options of HTTP.
    pub http: HttpOptions,
    /// The filter of log lines, in the notation of `tracing_subscriber::EnvFilter`.
    pub log: String,
    /// The format of log lines.
    pub log_format: LogFormat,
    /// The options of the export of spans; `None` if spans are not exported.
    pub otlp: Option<OtlpOptions>,
}

impl Config {
    /// Parses the settings.
    ///
    /// # Errors
    /// A value that is invalid.
    pub fn parse(values: &Values) -> Result<Self, ConfigError> {
        values.check_files()?;
        let listen = values.text("BESPEAK_LISTEN");
        let listen: SocketAddr = listen
            .parse()
            .map_err(|_| values.error("BESPEAK_LISTEN", "an address and a port, such as 127.0.0.1:8080"))?;
        let database = DatabaseUrl::parse(values.text("BESPEAK_DATABASE_URL"))
            .map_err(|invalid| values.error("BESPEAK_DATABASE_URL", invalid.expected))?;
        let strategy = strategy::strategy(values)?;
        let locks = locks::options(values)?;
        if strategy == Strategy::Redlock && !cfg!(feature = "redis") {
            let expected = "another: this build has no Redis client; build it with the feature redis";
            return Err(values.error("BESPEAK_STRATEGY", expected));
        }
        if strategy == Strategy::Redlock && locks.redis_urls.is_empty() {
            return Err(
                values.error("BESPEAK_REDIS_URLS", "set for the strategy redlock: the URLs of its nodes")
            );
        }
        let Lanes { lanes, write_connections } = lanes(values, &database, strategy)?;
        let retention = retention(values)?;
        let on_or_off = [("on", true), ("off", false)];
        Ok(Self {
            events: events::log(values, TopicRetention { inbox: retention.inbox, events: retention.events })?,
            events_source: events::source(values)?,
            relay: values.choice("BESPEAK_RELAY", &on_or_off)?,
            consumer: values.choice("BESPEAK_CONSUMER", &on_or_off)?,
            listen,
            migration_backups: u32::try_from(values.number("BESPEAK_MIGRATION_BACKUPS", 0, 100)?)
                .unwrap_or(0),
            drain: Duration::from_secs(values.number("BESPEAK_DRAIN_SECONDS", 0, 300)?),
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
            retention,
            webhooks: webhooks::options(values)?,
            cron_until: values
                .choice("BESPEAK_CRON_UNTIL", &[("deadline", RunUntil::Stopped), ("idle", RunUntil::Idle)])?,
            http: http::options(values, listen)?,
            log: values.text("BESPEAK_LOG").to_owned(),
            log_format: values
                .choice("BESPEAK_LOG_FORMAT", &[("text", LogFormat::Text), ("json", LogFormat::Json)])?,
            otlp: otlp::options(values)?,
        })
    }

    /// Replaces the strategy, including by one that no setting accepts. Only for the lock lab, which runs every
    /// strategy, also those that oversell.
    #[cfg(feature = "lab")]
    #[must_use]
    pub fn with_strategy(self, strategy: Strategy) -> Self {
        Self { strategy, ..self }
    }

    /// The movements of stock that become events. Clients of OpenReserve expect to learn of every give-back.
    pub fn reported_stock(&self) -> ReportedStock {
        match self.http.compat {
            Some(Compat::OpenReserve) => ReportedStock::EveryGiveBack,
            None => ReportedStock::Edges,
        }
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

/// Parses the numbers of lanes and of write connections, which depend on the database and the strategy.
fn lanes(values: &Values, database: &DatabaseUrl, strategy: Strategy) -> Result<Lanes, ConfigError> {
    let (lanes, write_connections) = match database {
        DatabaseUrl::Sqlite(_) if !strategy.is_of_sqlite() => {
            let expected =
                "lanes or pessimistic with SQLite, or shedlock or redlock with BESPEAK_EXPERIMENTAL=true";
            return Err(values.error("BESPEAK_STRATEGY", expected));
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
