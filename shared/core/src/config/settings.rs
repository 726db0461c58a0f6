//! The table of settings. The help texts are the source of the page of settings and of `bespeak serve --help`.

use super::setting::{Secrecy, Setting, secret, setting};

/// All settings, in the order in which `bespeak config` prints them.
pub const SETTINGS: &[Setting] = &[
    setting("BESPEAK_LISTEN", "127.0.0.1:8080", "Address and port to listen on; port 0 chooses a free port"),
    secret(
        Secrecy::Password,
        "BESPEAK_DATABASE_URL",
        "sqlite://bespeak.db",
        "URL of the database: sqlite://FILE (created if missing; one machine) or \
         mysql://USER:PASSWORD@HOST:PORT/DATABASE (MySQL or MariaDB; any number of processes)",
    ),
    setting(
        "BESPEAK_MIGRATION_BACKUPS",
        "3",
        "How many automatic copies of an SQLite file are kept (0 to 100); each is made beside the file before a \
         migration changes it. 0 makes none",
    ),
    setting(
        "BESPEAK_READ_CONNECTIONS",
        "4",
        "Database connections for views (1 to 1000); from 4 on, background tasks have two more, and metrics \
         one; raise it if bespeak_pool_wait_seconds of the pool \
         readers grows",
    ),
    setting(
        "BESPEAK_WRITE_CONNECTIONS",
        "16",
        "Largest number of database connections for writes (1 to 1000), at least BESPEAK_LANES; SQLite \
         always has one",
    ),
    setting(
        "BESPEAK_STRATEGY",
        "lanes",
        "How concurrent reservations are kept apart: lanes (waiting commands share a transaction), or \
         one transaction per command with pessimistic (row lock), conditional (the update checks the \
         stock) or optimistic (version check). shedlock (a lease in the database) and redlock \
         (BESPEAK_REDIS_URLS) add a distributed lock around the transaction and need \
         BESPEAK_EXPERIMENTAL. SQLite has all but conditional and optimistic",
    ),
    setting(
        "BESPEAK_EXPERIMENTAL",
        "false",
        "Allows the experimental strategies shedlock and redlock, on any database: true or false",
    ),
    secret(
        Secrecy::Whole,
        "BESPEAK_REDIS_URLS",
        "",
        "Redis nodes, comma-separated: redis://[USER][:PASSWORD@]HOST:PORT[/DB], or rediss:// for \
         TLS; empty for none. The first node is used for hints and rate limits; several independent \
         nodes form the quorum of the strategy redlock",
    ),
    setting(
        "BESPEAK_REDIS_TIMEOUT_MS",
        "20",
        "How long a request waits for the first Redis node, in milliseconds (1 to 1000); after that it \
         continues without Redis",
    ),
    setting(
        "BESPEAK_REDIS_PREFIX",
        "bespeak",
        "Prefix of Redis keys and channels (1 to 64 characters of A-Za-z0-9._:-); use a different one \
         for each deployment that shares a Redis",
    ),
    setting(
        "BESPEAK_RATE_LIMIT_PER_HOLDER",
        "none",
        "Largest number of reserve requests of one holder in a time (1 to 1000000 requests in 1s to \
         24h), such as 20/1s, 300/5m or 1000/1h; further requests get 429. none for no limit",
    ),
    setting(
        "BESPEAK_LOCK_TIMEOUT_MS",
        "2000",
        "How long a command waits for its distributed locks before it gets 503, in milliseconds (1 to \
         60000); only for shedlock and redlock",
    ),
    setting(
        "BESPEAK_LOCK_LEASE_MS",
        "10000",
        "How long a distributed lock stays locked after its holder disappeared, in milliseconds (100 to \
         3600000); only for shedlock and redlock",
    ),
    setting(
        "BESPEAK_LOCK_NODE_TIMEOUT_MS",
        "200",
        "How long redlock waits for one Redis node, in milliseconds (at most a quarter of \
         BESPEAK_LOCK_LEASE_MS)",
    ),
    setting(
        "BESPEAK_LANES",
        "auto",
        "Lanes, each of which runs one transaction at a time (1 to 256, at most \
         BESPEAK_WRITE_CONNECTIONS); auto is 8, and 1 for SQLite, which has one writer",
    ),
    setting(
        "BESPEAK_LANE_BATCH",
        "512",
        "Largest number of commands in one transaction of a lane (1 to 10000)",
    ),
    setting(
        "BESPEAK_LANE_QUEUE",
        "8192",
        "Commands that may wait in each lane (1 to 1000000); further commands get 503. For strategies \
         without lanes it bounds all waiting commands together",
    ),
    setting(
        "BESPEAK_EVENTS_URL",
        "embedded:",
        "Event log: embedded: (events are applied in the same process) or \
         kafka://HOST:PORT[,HOST:PORT..][/TOPIC]; the default topic is bespeak.events",
    ),
    setting("BESPEAK_EVENTS_SOURCE", "/bespeak", "CloudEvents source of all events: a URI reference"),
    setting(
        "BESPEAK_EVENTS_PARTITIONS",
        "12",
        "Partitions of the topic (1 to 10000): a missing topic is created with this number, and a topic \
         with another number is rejected",
    ),
    setting(
        "BESPEAK_EVENTS_REPLICAS",
        "auto",
        "Replicas of the topic if it is created (1 to 100); auto leaves the number to the broker",
    ),
    setting("BESPEAK_EVENTS_COMPRESSION", "lz4", "Compression of batches of events: lz4, zstd or none"),
    setting(
        "BESPEAK_CONSUMER_GROUP",
        "bespeak",
        "Kafka consumer group, and the name of its inbox (1 to 64 characters of A-Za-z0-9._-)",
    ),
    setting(
        "BESPEAK_CONSUMER_SESSION_MS",
        "6000",
        "How long the group waits for a consumer that stopped without leaving, before others get its \
         partitions, in milliseconds (1000 to 300000). Brokers accept at least their \
         group.min.session.timeout.ms, 6000 by default",
    ),
    setting(
        "BESPEAK_CONSUMER_INSTANCE",
        "",
        "Name of this process in its consumer group, unique and the same after each restart (static \
         membership; at most 200 characters of A-Za-z0-9._-): it gets its partitions back at once after a \
         crash, and others get them only after BESPEAK_CONSUMER_SESSION_MS, also when it shuts down. Empty \
         for none",
    ),
    setting(
        "BESPEAK_RELAY",
        "on",
        "Whether this process publishes events from the outbox: on or off. At least one process needs it",
    ),
    setting(
        "BESPEAK_CONSUMER",
        "on",
        "Whether this process applies events from Kafka: on or off. With embedded: the relay applies \
         them",
    ),
    setting("BESPEAK_KAFKA_TLS", "false", "Use TLS for connections to brokers: true or false"),
    setting(
        "BESPEAK_KAFKA_CA_FILE",
        "",
        "PEM file of certificates to trust instead of the system certificates; empty for the system \
         certificates. Needs BESPEAK_KAFKA_TLS",
    ),
    setting(
        "BESPEAK_KAFKA_LOGIN",
        "none",
        "Authentication with brokers: none, scram-sha-512, scram-sha-256, plain or msk-iam (needs TLS \
         and BESPEAK_KAFKA_REGION)",
    ),
    setting("BESPEAK_KAFKA_USERNAME", "", "User name for scram-sha-512, scram-sha-256 and plain"),
    secret(
        Secrecy::Whole,
        "BESPEAK_KAFKA_PASSWORD",
        "",
        "Password for scram-sha-512, scram-sha-256 and plain",
    ),
    setting("BESPEAK_KAFKA_REGION", "", "AWS region of the cluster, for msk-iam"),
    setting(
        "BESPEAK_CRON_UNTIL",
        "deadline",
        "How long a scheduled invocation of relay-cron runs: deadline (until shortly before its time \
         limit) or idle (until nothing is left to do)",
    ),
    setting(
        "BESPEAK_ALLOWED_HOSTS",
        "auto",
        "Hosts that requests may name in the header Host (and, from browsers, in Origin), against web pages that \
         make their own name resolve to this server: names and addresses without ports, comma-separated; any for no \
         check; auto allows localhost and loopback addresses while BESPEAK_LISTEN is one, and otherwise any. Health \
         checks are always answered",
    ),
    setting(
        "BESPEAK_CONNECTIONS_MAX",
        "10000",
        "Largest number of connections that are served at the same time (1 to 1000000); it is lowered to what the \
         limit of file descriptors allows. Beyond it, idle connections end, health checks are answered, and other \
         requests get 503",
    ),
    setting(
        "BESPEAK_HEAD_BYTES_MAX",
        "16384",
        "Largest head of a request (request line and headers), in bytes (8192 to 1048576); a larger one gets 431",
    ),
    setting(
        "BESPEAK_RESPONSE_TIMEOUT_SECONDS",
        "30",
        "How long a client may take to receive an answer, in seconds (1 to 300); after that it is disconnected",
    ),
    setting(
        "BESPEAK_TRUST_TRACE",
        "always",
        "Whether a request continues the trace that its header traceparent or X-Amzn-Trace-Id names: always, or \
         never, if strangers can reach the server; then each request begins a trace of its own, which is linked to \
         that one and sampled by BESPEAK_OTLP_SAMPLE_RATIO",
    ),
    setting(
        "BESPEAK_COMPAT",
        "none",
        "Product whose clients, probes and dashboards can be used unchanged: openreserve, or none",
    ),
    secret(
        Secrecy::Path,
        "OPENRESERVE_WEBHOOKS_URL",
        "",
        "With BESPEAK_COMPAT=openreserve: another name of BESPEAK_WEBHOOK_URL, which is preferred",
    ),
    setting(
        "OPENRESERVE_WEBHOOKS_ENABLED",
        "false",
        "With BESPEAK_COMPAT=openreserve: whether OPENRESERVE_WEBHOOKS_URL is used: true or false",
    ),
    setting(
        "BESPEAK_HTTP_BASE_PATH",
        "",
        "Path prefix that is removed from request paths, such as /booking, if a gateway or proxy mounts \
         the API under a path; empty for none",
    ),
    setting(
        "BESPEAK_QUANTITY_MAX",
        "1000000",
        "Largest quantity of one item of a reservation, in units (1 to 2^53 - 1)",
    ),
    setting("BESPEAK_TOTAL_MAX", "9007199254740991", "Largest total of a resource, in units (1 to 2^53 - 1)"),
    setting(
        "BESPEAK_TTL_DEFAULT_SECONDS",
        "300",
        "TTL of a hold whose request names none, in seconds (at most BESPEAK_TTL_MAX_SECONDS)",
    ),
    setting(
        "BESPEAK_TTL_MAX_SECONDS",
        "86400",
        "Longest TTL that a request may name, in seconds (at most 366 days)",
    ),
    setting(
        "BESPEAK_LIFE_MAX_SECONDS",
        "172800",
        "Longest life of a hold, extensions included, in seconds (at least BESPEAK_TTL_MAX_SECONDS, at \
         most 366 days)",
    ),
    setting("BESPEAK_ITEMS_MAX", "32", "Largest number of items of one reservation (1 to 1000)"),
    setting("BESPEAK_HOLDER_LENGTH_MAX", "128", "Longest holder, in characters (1 to 128)"),
    setting(
        "BESPEAK_METADATA_BYTES_MAX",
        "4096",
        "Largest metadata of a reservation, in bytes of JSON (2 to 524288); every event of the \
         reservation carries it",
    ),
    setting(
        "BESPEAK_RETENTION_HOURS",
        "168",
        "How long released, expired and cancelled reservations are kept, with their idempotency keys, in \
         hours (at least 72); committed reservations are kept for ever",
    ),
    setting(
        "BESPEAK_EVENT_RETENTION_HOURS",
        "24",
        "How long published events are kept in the outbox, in hours (1 to BESPEAK_RETENTION_HOURS)",
    ),
    setting(
        "BESPEAK_INBOX_RETENTION_HOURS",
        "192",
        "How long a consumer remembers which events it has applied, in hours (at least \
         BESPEAK_EVENT_RETENTION_HOURS); choose a longer time than the retention of the topic",
    ),
    setting(
        "BESPEAK_WEBHOOKS",
        "on",
        "Whether `bespeak serve` delivers webhooks: on or off. With off, another process must deliver them; this \
         one sends nothing, so it needs no connections to receivers",
    ),
    secret(
        Secrecy::Path,
        "BESPEAK_WEBHOOK_URL",
        "",
        "URL that receives every event as a webhook, signed with BESPEAK_WEBHOOK_SECRET; empty for none. \
         The HTTP API manages further endpoints",
    ),
    secret(
        Secrecy::Whole,
        "BESPEAK_WEBHOOK_SECRET",
        "",
        "Secret that signs the deliveries to BESPEAK_WEBHOOK_URL: whsec_ and the base64 of 24 to 64 random bytes",
    ),
    setting(
        "BESPEAK_WEBHOOK_ALLOW_PRIVATE",
        "false",
        "Whether webhooks may be sent to every address that is not reachable from the internet, such as \
         127.0.0.1 or 10.0.0.1: true or false. BESPEAK_WEBHOOK_ALLOW_NETWORKS allows single networks",
    ),
    setting(
        "BESPEAK_WEBHOOK_ALLOW_NETWORKS",
        "",
        "Networks that webhooks may be sent to although they are not reachable from the internet, comma-separated, \
         such as 10.1.0.0/16,fd00:1::/32. Link-local addresses and cloud services must be named themselves",
    ),
    setting(
        "BESPEAK_WEBHOOK_DENY_NETWORKS",
        "",
        "Networks that webhooks are never sent to, such as the public addresses of your own hosts, in CIDR notation",
    ),
    setting(
        "BESPEAK_WEBHOOK_ALLOW_PORTS",
        "80,443,1024-65535",
        "Ports that webhooks may be sent to: ports and ranges, comma-separated",
    ),
    setting(
        "BESPEAK_WEBHOOK_ALLOW_HTTP",
        "auto",
        "Whether webhooks may use http: true, false, or auto (if private addresses are allowed, or it existed)",
    ),
    setting(
        "BESPEAK_WEBHOOK_ENDPOINTS_MAX",
        "100",
        "Largest number of webhook endpoints (1 to 10000): each event is stored once for each of them",
    ),
    setting(
        "BESPEAK_WEBHOOK_PENDING_MAX",
        "100000",
        "Deliveries that may be pending for a webhook endpoint (1 to 10000000); further ones are FAILED at once",
    ),
    setting(
        "BESPEAK_WEBHOOK_DISABLE_AFTER_HOURS",
        "120",
        "How long a webhook endpoint may fail without a delivery before it is disabled, in hours (1 to 8760)",
    ),
    setting(
        "BESPEAK_WEBHOOK_RETENTION_HOURS",
        "168",
        "How long webhook deliveries are kept after they were delivered or given up, and how long events \
         are kept for a disabled endpoint, in hours (at least 1)",
    ),
    setting(
        "BESPEAK_DRAIN_SECONDS",
        "0",
        "How long the server still serves after SIGTERM while /health/ready answers 503, in seconds (0 to 300), so \
         that load balancers send their requests elsewhere before it stops",
    ),
    setting("BESPEAK_BODY_BYTES_MAX", "65536", "Largest request body, in bytes (1024 to 16777216)"),
    setting("BESPEAK_IMPORT_BYTES_MAX", "4194304", "Largest body of an import, in bytes (1024 to 67108864)"),
    setting(
        "BESPEAK_REQUEST_TIMEOUT_SECONDS",
        "10",
        "How long a client may take to send a request, in seconds (1 to 300)",
    ),
    setting(
        "BESPEAK_LOG",
        "info",
        "Which log lines are written: error, warn, info, debug, trace, or target=level,..",
    ),
    setting("BESPEAK_LOG_FORMAT", "text", "Format of log lines: text or json"),
    setting(
        "BESPEAK_ACCESS_LOG",
        "off",
        "Whether each answered request makes one line of JSON on standard error, with its route, status, time, \
         request id and client address: on or off",
    ),
    secret(
        Secrecy::Password,
        "BESPEAK_OTLP_ENDPOINT",
        "",
        "Base URL of a collector that receives spans by OTLP over HTTP, such as \
         http://127.0.0.1:4318; empty to export none",
    ),
    setting(
        "BESPEAK_OTLP_SAMPLE_RATIO",
        "1",
        "Share of the traces that begin in this process that is exported (0 to 1); traces that a caller \
         began follow the sampling of the caller",
    ),
    Setting {
        of_server: false,
        ..setting(
            "BESPEAK_SERVER_URL",
            "http://127.0.0.1:8080",
            "Server that the client commands connect to (OPENRESERVE_SERVER_URL is accepted too)",
        )
    },
];
