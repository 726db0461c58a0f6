//! `bespeak serve`: everything in one process.

use std::{process::ExitCode, sync::Arc, time::Duration};

use bespeak::{
    app::{Access, App, open_store},
    config::{Config, Values},
    telemetry::{self, LogFormat},
};
use tokio::{
    net::{TcpListener, TcpSocket},
    signal,
};
use tokio_util::sync::CancellationToken;

use crate::{failure::Failure, output::Output};

/// How many connections the kernel may queue: a crowd that arrives at once must not be sent away. The kernel lowers it
/// to its own limit (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;
/// How often metrics fold away what they collected.
const UPKEEP: Duration = Duration::from_secs(5);

/// A server that runs.
pub struct Server {
    pub address: std::net::SocketAddr,
    app: Arc<App>,
    stop: CancellationToken,
    connections: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Opens and migrates the books, and listens.
    pub async fn start(config: &Config) -> Result<Self, Failure> {
        // More than a thousand clients need more descriptors than most shells allow by default; the hard limit bounds it.
        let _ = rlimit::increase_nofile_limit(u64::MAX);
        let metrics =
            telemetry::metrics().map_err(|error| Failure::caused("metrics cannot be started", &error))?;
        let listener = listen(config)?;
        let address = listener.local_addr().map_err(|error| Failure::caused("no address", &error))?;
        let store =
            open_store(config, Access::Serve).await.map_err(|error| Failure::database(config, &error))?;
        store.migrate().await?;
        let app = Arc::new(App::start(store, config));
        app.start_background(config).await?;
        let stop = CancellationToken::new();
        let router = bespeak_http::router(app.clone(), config.http.clone());
        let served = bespeak_http::serve(listener, router, config.http.request_timeout, stop.clone());
        let connections = tokio::spawn(served);
        let ended = stop.clone();
        tokio::spawn(async move {
            while tokio::time::timeout(UPKEEP, ended.cancelled()).await.is_err() {
                metrics.run_upkeep();
            }
        });
        Ok(Self { address, app, stop, connections })
    }

    /// Answers what is under way, finishes what was accepted, closes the books.
    pub async fn stop(self) {
        self.stop.cancel();
        // A task that panicked has said so; the books are closed all the same.
        let _ = self.connections.await;
        self.app.stop().await;
    }
}

fn listen(config: &Config) -> Result<TcpListener, Failure> {
    let socket = if config.listen.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let listening = socket.and_then(|socket| {
        socket.set_reuseaddr(true)?;
        socket.bind(config.listen)?;
        socket.listen(BACKLOG)
    });
    listening.map_err(|error| {
        Failure::caused(format!("BESPEAK_LISTEN={} cannot be listened on", config.listen), &error)
    })
}

/// Serves until told to stop (SIGINT, SIGTERM).
pub(crate) async fn serve(output: Output, values: Values) -> Result<ExitCode, Failure> {
    let mut config = Config::parse(&values)?;
    if output.is_json() {
        config.log_format = LogFormat::Json;
    }
    telemetry::start_logs(&config.log, config.log_format)
        .map_err(|error| Failure::usage(format!("BESPEAK_LOG={:?} is not valid: {error}", config.log)))?;
    telemetry::start_spans(config.otlp.as_ref())
        .map_err(|error| Failure::usage(format!("BESPEAK_OTLP_ENDPOINT cannot be exported to: {error}")))?;
    let server = Server::start(&config).await?;
    tracing::info!(
        address = %server.address,
        database = %shown_url(&values),
        strategy = %config.strategy,
        "listening on http://{}, documentation at /docs", server.address
    );
    told_to_stop().await?;
    tracing::info!("stopping: answering what is under way");
    server.stop().await;
    telemetry::stop_spans().await;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

fn shown_url(values: &Values) -> String {
    bespeak::config::SETTINGS
        .iter()
        .find(|setting| setting.name == "BESPEAK_DATABASE_URL")
        .map(|setting| values.shown(setting).0)
        .unwrap_or_default()
}

async fn told_to_stop() -> Result<(), Failure> {
    let failed = |error| Failure::caused("signals cannot be waited for", &error);
    let mut terminate = signal::unix::signal(signal::unix::SignalKind::terminate()).map_err(failed)?;
    tokio::select! {
        interrupted = signal::ctrl_c() => interrupted.map_err(failed),
        _ = terminate.recv() => Ok(()),
    }
}
