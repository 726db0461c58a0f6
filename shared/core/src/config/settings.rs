//! The table of settings.

use crate::secret_url::without_password;

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The environment variable.
    pub name: &'static str,
    /// The value where nobody sets it.
    pub default: &'static str,
    /// What it means, its unit and its range.
    pub help: &'static str,
    /// Whether it may hold a password, which is never shown.
    pub secret: bool,
    /// Whether it is a secret as a whole, of which nothing is shown.
    pub opaque: bool,
    /// Whether `bespeak serve` has it as a flag; the others are for clients.
    pub of_server: bool,
}

impl Setting {
    /// A value of this setting as anybody may see it.
    pub(super) fn without_secret(&self, value: &str) -> String {
        match (self.opaque, self.secret) {
            (true, _) if value.is_empty() => String::new(),
            (true, _) => "***".to_owned(),
            (false, true) => without_password(value),
            (false, false) => value.to_owned(),
        }
    }

    /// The flag of `bespeak serve`, without its dashes: `BESPEAK_LANE_QUEUE` is `lane-queue`.
    pub fn flag(&self) -> String {
        self.name.trim_start_matches("BESPEAK_").to_ascii_lowercase().replace('_', "-")
    }
}

const fn setting(name: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting { name, default, help, secret: false, opaque: false, of_server: true }
}

/// Every setting, in the order in which `bespeak config` prints them.
pub const SETTINGS: &[Setting] = &[
    setting("BESPEAK_LISTEN", "127.0.0.1:8080", "Address and port to listen on; port 0 takes a free one"),
    Setting {
        secret: true,
        ..setting(
            "BESPEAK_DATABASE_URL",
            "sqlite://bespeak.db",
            "Where the books are: sqlite://FILE (created if missing) or mysql://USER:PASSWORD@HOST:PORT/DATABASE",
        )
    },
    setting("BESPEAK_READ_CONNECTIONS", "4", "Database connections that serve reads (1 to 1000)"),
    setting(
        "BESPEAK_WRITE_CONNECTIONS",
        "16",
        "Database connections that write, at most (1 to 1000); SQLite has one",
    ),
    setting(
        "BESPEAK_STRATEGY",
        "lanes",
        "How reservations are kept apart: lanes (waiting commands share a transaction), or one transaction each: pessimistic \
         (row lock), conditional (the update is the guard) or optimistic (version check); experimental, inside a distributed \
         lock: shedlock (a lease in the database) or redlock (BESPEAK_REDIS_URLS)",
    ),
    setting("BESPEAK_EXPERIMENTAL", "false", "Whether experimental strategies may be chosen: true or false"),
    Setting {
        opaque: true,
        ..setting(
            "BESPEAK_REDIS_URLS",
            "",
            "Redis nodes, comma-separated: redis://[USER][:PASSWORD@]HOST:PORT[/DB], or rediss:// for TLS; several \
             independent ones make a Redlock quorum; empty for none",
        )
    },
    setting(
        "BESPEAK_REDIS_TIMEOUT_MS",
        "20",
        "How long a request waits for the first Redis node, in ms (1 to 1000); then it goes on without",
    ),
    setting(
        "BESPEAK_REDIS_PREFIX",
        "bespeak",
        "What keys and channels of gate and rate limit begin with; another one for each deployment on the same Redis",
    ),
    setting(
        "BESPEAK_RATE_LIMIT_PER_HOLDER",
        "none",
        "How often a holder may ask for units, such as 20/1s, 300/5m or 1000/1h; more is answered 429",
    ),
    setting(
        "BESPEAK_LOCK_TIMEOUT_MS",
        "2000",
        "How long a command waits for its distributed locks before it is answered 503, in ms (1 to 60000)",
    ),
    setting(
        "BESPEAK_LOCK_LEASE_MS",
        "10000",
        "How long a distributed lock outlives a holder that is gone, in ms (100 to 3600000)",
    ),
    setting(
        "BESPEAK_LOCK_NODE_TIMEOUT_MS",
        "200",
        "How long one Redis node is waited for, in ms (at most a quarter of BESPEAK_LOCK_LEASE_MS)",
    ),
    setting("BESPEAK_LANES", "auto", "Lanes (1 to 256); auto is 8, and 1 for SQLite, which has one writer"),
    setting("BESPEAK_LANE_BATCH", "512", "Commands that one transaction takes at the most (1 to 10000)"),
    setting("BESPEAK_LANE_QUEUE", "8192", "Commands that may wait; more are answered 503 (1 to 1000000)"),
    setting(
        "BESPEAK_EVENTS_URL",
        "embedded:",
        "Where events go: embedded: (to the consumer of the same process) or kafka://HOST:PORT[,HOST:PORT..][/TOPIC]",
    ),
    setting("BESPEAK_EVENTS_SOURCE", "/bespeak", "What events say they come from: the CloudEvents source"),
    setting(
        "BESPEAK_EVENTS_PARTITIONS",
        "12",
        "Partitions of the topic (1 to 10000): created with so many, and refused with another number",
    ),
    setting(
        "BESPEAK_EVENTS_REPLICAS",
        "auto",
        "Copies of the topic when it is created (1 to 100); auto leaves that to the broker",
    ),
    setting("BESPEAK_EVENTS_COMPRESSION", "lz4", "How batches of events are compressed: lz4, zstd or none"),
    setting("BESPEAK_CONSUMER_GROUP", "bespeak", "Kafka's consumer group, and the name of its inbox"),
    setting("BESPEAK_RELAY", "on", "Whether this process relays events from the outbox: on or off"),
    setting(
        "BESPEAK_CONSUMER",
        "on",
        "Whether this process applies what Kafka delivers: on or off (with embedded: the relay does so)",
    ),
    setting("BESPEAK_KAFKA_TLS", "false", "Whether brokers are spoken to over TLS: true or false"),
    setting(
        "BESPEAK_KAFKA_CA_FILE",
        "",
        "A PEM file of certificates to trust, instead of the system's; empty for the system's",
    ),
    setting(
        "BESPEAK_KAFKA_LOGIN",
        "none",
        "How to log in to brokers: none, scram-sha-512, scram-sha-256, plain or msk-iam",
    ),
    setting("BESPEAK_KAFKA_USERNAME", "", "The name to log in with"),
    Setting { opaque: true, ..setting("BESPEAK_KAFKA_PASSWORD", "", "The password to log in with") },
    setting("BESPEAK_KAFKA_REGION", "", "The AWS region of the cluster, for msk-iam"),
    setting(
        "BESPEAK_CRON_UNTIL",
        "deadline",
        "How long an invocation of relay-cron by its schedule goes on: deadline (until shortly before it) or idle (until \
         nothing is left to do)",
    ),
    setting(
        "BESPEAK_HTTP_BASE_PATH",
        "",
        "A path in front of the API's own that is stripped, such as /booking: a base-path mapping or a proxy's mount",
    ),
    setting("BESPEAK_QUANTITY_MAX", "1000000", "Largest quantity of one item, in units"),
    setting(
        "BESPEAK_TOTAL_MAX",
        "9007199254740991",
        "Largest total of a resource, in units (2^53 - 1 at most)",
    ),
    setting("BESPEAK_TTL_DEFAULT_SECONDS", "300", "TTL of a hold that names none, in seconds"),
    setting("BESPEAK_TTL_MAX_SECONDS", "86400", "Longest TTL, in seconds"),
    setting("BESPEAK_LIFE_MAX_SECONDS", "172800", "Longest life of a hold, extensions included, in seconds"),
    setting("BESPEAK_ITEMS_MAX", "32", "Most items of one reservation (1 to 1000)"),
    setting("BESPEAK_HOLDER_LENGTH_MAX", "128", "Longest holder, in characters (1 to 128)"),
    setting(
        "BESPEAK_METADATA_BYTES_MAX",
        "4096",
        "Longest metadata, in bytes of JSON (at most 524288: an event bears it)",
    ),
    setting(
        "BESPEAK_RETENTION_HOURS",
        "168",
        "How long released, expired and cancelled reservations are kept, and with them their idempotency keys, in hours (at \
         least 72); committed ones are kept for ever",
    ),
    setting(
        "BESPEAK_EVENT_RETENTION_HOURS",
        "24",
        "How long published events are kept, in hours (at most BESPEAK_RETENTION_HOURS)",
    ),
    setting(
        "BESPEAK_INBOX_RETENTION_HOURS",
        "192",
        "How long a consumer remembers which events it has applied, in hours: longer than the topic keeps them",
    ),
    setting(
        "BESPEAK_WEBHOOK_URL",
        "",
        "A URL that is told of every event, signed with BESPEAK_WEBHOOK_SECRET; empty for none. More endpoints are made over \
         HTTP",
    ),
    Setting {
        opaque: true,
        ..setting(
            "BESPEAK_WEBHOOK_SECRET",
            "",
            "What deliveries to BESPEAK_WEBHOOK_URL are signed with: whsec_ and the base64 of 24 to 64 random bytes",
        )
    },
    setting(
        "BESPEAK_WEBHOOK_ALLOW_PRIVATE",
        "false",
        "Whether webhooks may be sent to addresses that the internet cannot reach, such as 127.0.0.1 or 10.0.0.1: true or false",
    ),
    setting(
        "BESPEAK_WEBHOOK_RETENTION_HOURS",
        "168",
        "How long webhook deliveries are kept once they were made or given up, in hours",
    ),
    setting("BESPEAK_BODY_BYTES_MAX", "65536", "Largest request body, in bytes"),
    setting("BESPEAK_IMPORT_BYTES_MAX", "4194304", "Largest import, in bytes"),
    setting(
        "BESPEAK_REQUEST_TIMEOUT_SECONDS",
        "10",
        "How long a client may take to send a request, in seconds",
    ),
    setting(
        "BESPEAK_LOG",
        "info",
        "Which log lines are written: error, warn, info, debug, trace, or target=level,..",
    ),
    setting("BESPEAK_LOG_FORMAT", "text", "How they are written: text or json"),
    Setting {
        secret: true,
        ..setting(
            "BESPEAK_OTLP_ENDPOINT",
            "",
            "Where spans go by OpenTelemetry's protocol over HTTP, such as http://127.0.0.1:4318; empty for nowhere",
        )
    },
    setting(
        "BESPEAK_OTLP_SAMPLE_RATIO",
        "1",
        "Which part of the traces that begin here is exported (0 to 1); of others, those that their callers sample",
    ),
    Setting {
        of_server: false,
        ..setting(
            "BESPEAK_SERVER_URL",
            "http://127.0.0.1:8080",
            "The server that client commands talk to (OPENRESERVE_SERVER_URL is honoured too)",
        )
    },
];
