//! `bespeak serve`: runs the API, the background tasks and the event pipeline in one process.

use std::{process::ExitCode, sync::Arc, time::Duration};

use bespeak::{
    app::{Access, App, start_telemetry},
    config::{Config, Values},
    http_options::HttpOptions,
    telemetry::{self, LogFormat},
};
use tokio::{
    net::TcpSocket,
    signal::unix::{Signal, SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use crate::{database::open, failure::Failure, output::Output};

/// How many connections the kernel may queue, so that a crowd that arrives at once is not rejected. The kernel lowers
/// it to its own limit (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;
/// File descriptors for databases, brokers, webhooks and files.
const DESCRIPTORS_ELSEWHERE: usize = 256;

/// How long everything may take to stop. Kubernetes and systemd kill a process that takes longer than they
/// allow.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// A running server.
pub struct Server {
    /// The address that the server listens on; the port is the real one, also if port 0 was configured.
    pub address: std::net::SocketAddr,
    app: Arc<App>,
    stop: CancellationToken,
    connections: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Opens and migrates the database, starts the background tasks, and listens.
    ///
    /// The address is taken first, so that one that is in use is reported at once, but clients are refused until there
    /// is a database to serve them from.
    ///
    /// # Errors
    /// The address is in use, the database cannot be opened, or a background task cannot be started.
    pub async fn start(config: &Config) -> Result<Self, Failure> {
        // More than a thousand clients need more file descriptors than most shells allow by default. If the limit
        // cannot be raised, the server runs with fewer connections.
        let descriptors = rlimit::increase_nofile_limit(u64::MAX);
        telemetry::metrics().map_err(|error| Failure::caused("metrics cannot be started", &error))?;
        let cannot_listen = |error: std::io::Error| {
            Failure::caused(format!("BESPEAK_LISTEN={} cannot be listened on", config.listen), &error)
        };
        let socket = bind(config).map_err(cannot_listen)?;
        let store = open(config, Access::Serve).await?;
        store.migrate().await?;
        let app = Arc::new(App::start(store, config));
        app.start_background(config).await?;
        let listener = socket.listen(BACKLOG).map_err(cannot_listen)?;
        let address = listener
            .local_addr()
            .map_err(|error| Failure::caused("the address of the listener cannot be read", &error))?;
        let stop = CancellationToken::new();
        let http = HttpOptions {
            connections_max: connections_max(config.http.connections_max, descriptors.ok()),
            ..config.http.clone()
        };
        let router = bespeak_http::router(app.clone(), http.clone());
        let until = stop.clone();
        let served = async move { bespeak_http::serve(listener, router, &http, until).await };
        let connections = tokio::spawn(app.watch("listener", served));
        Ok(Self { address, app, stop, connections })
    }

    /// Answers requests in flight, finishes accepted commands, and closes the database.
    pub async fn stop(self) {
        self.stop.cancel();
        // If the task panicked, the panic was logged. The database is closed in any case.
        let _ = self.connections.await;
        self.app.stop().await;
    }
}

/// Takes the address, without accepting connections yet.
fn bind(config: &Config) -> std::io::Result<TcpSocket> {
    let socket = if config.listen.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(config.listen)?;
    Ok(socket)
}

/// The largest number of connections: what the configuration allows, and no more than the file descriptors that are not
/// needed elsewhere.
fn connections_max(configured: usize, descriptors: Option<u64>) -> usize {
    let Some(descriptors) = descriptors.and_then(|limit| usize::try_from(limit).ok()) else {
        return configured;
    };
    let possible = descriptors.saturating_sub(DESCRIPTORS_ELSEWHERE).max(1);
    if possible < configured {
        tracing::warn!(
            connections = possible,
            "the limit of file descriptors (ulimit -n) allows fewer connections than BESPEAK_CONNECTIONS_MAX"
        );
    }
    configured.min(possible)
}

/// Serves until SIGINT or SIGTERM, or until a background task fails, which is an error.
pub(crate) async fn serve(output: Output, values: Values) -> Result<ExitCode, Failure> {
    let mut config = Config::parse(&values)?;
    if output.is_json() {
        config.log_format = LogFormat::Json;
    }
    start_telemetry(&config).map_err(|error| Failure::usage(error.to_string()))?;
    let mut signals = Signals::new()?;
    // A signal while the database is being opened or migrated ends the process, as it would without these lines.
    let server = tokio::select! {
        server = Server::start(&config) => server?,
        () = signals.receive() => return Err(Failure::new("stopped by a signal before the server was ready")),
    };
    tracing::info!(
        address = %server.address,
        database = %shown_url(&values),
        strategy = %config.strategy,
        "listening on http://{}, documentation at /docs", server.address
    );
    let failure = tokio::select! {
        () = signals.receive() => None,
        failure = server.app.task_failed() => Some(failure),
    };
    tokio::spawn(async move {
        signals.receive().await;
        tracing::warn!("exiting at once, because of a second signal");
        std::process::exit(1);
    });
    if failure.is_none() && !config.drain.is_zero() {
        tracing::info!(seconds = config.drain.as_secs(), "draining: not ready any more, and still serving");
        server.app.drain();
        tokio::time::sleep(config.drain).await;
    }
    tracing::info!("stopping: answering requests in flight");
    let stopped = tokio::time::timeout(STOP_WITHIN, async {
        server.stop().await;
        telemetry::stop_spans().await;
    });
    if stopped.await.is_err() {
        tracing::error!(
            seconds = STOP_WITHIN.as_secs(),
            "exiting, although not everything has stopped in time"
        );
        // Not by returning: that would wait for whatever does not stop.
        std::process::exit(1);
    }
    if let Some(failure) = failure {
        return Err(Failure::new(failure.to_string()));
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// SIGINT and SIGTERM, which are received from the creation of this value on.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let signal =
            |kind| signal(kind).map_err(|error| Failure::caused("signals cannot be received", &error));
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next one. Cancel-safe.
    async fn receive(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The URL of the database without its password.
fn shown_url(values: &Values) -> String {
    bespeak::config::SETTINGS
        .iter()
        .find(|setting| setting.name == "BESPEAK_DATABASE_URL")
        .map(|setting| values.shown(setting).0)
        .unwrap_or_default()
}
