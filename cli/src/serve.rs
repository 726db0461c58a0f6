//! `bespeak serve`: runs the API, the background tasks and the event pipeline in one process.

use std::{process::ExitCode, sync::Arc};

use bespeak::{
    app::{Access, App, open_store, start_telemetry},
    config::{Config, Values},
    telemetry::{self, LogFormat},
};
use tokio::{
    net::{TcpListener, TcpSocket},
    signal,
};
use tokio_util::sync::CancellationToken;

use crate::{failure::Failure, output::Output};

/// How many connections the kernel may queue, so that a crowd that arrives at once is not rejected. The kernel lowers
/// it to its own limit (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;

/// A running server.
pub struct Server {
    /// The address that the server listens on; the port is the real one, also if port 0 was configured.
    pub address: std::net::SocketAddr,
    app: Arc<App>,
    stop: CancellationToken,
    connections: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Listens, opens and migrates the database, and starts the background tasks.
    ///
    /// # Errors
    /// The address is in use, the database cannot be opened, or a background task cannot be started.
    pub async fn start(config: &Config) -> Result<Self, Failure> {
        // More than a thousand clients need more file descriptors than most shells allow by default. If the limit
        // cannot be raised, the server runs with fewer connections.
        let _ = rlimit::increase_nofile_limit(u64::MAX);
        telemetry::metrics().map_err(|error| Failure::caused("metrics cannot be started", &error))?;
        let listener = listen(config)?;
        let address = listener
            .local_addr()
            .map_err(|error| Failure::caused("the address of the listener cannot be read", &error))?;
        let store =
            open_store(config, Access::Serve).await.map_err(|error| Failure::database(config, &error))?;
        store.migrate().await?;
        let app = Arc::new(App::start(store, config));
        app.start_background(config).await?;
        let stop = CancellationToken::new();
        let router = bespeak_http::router(app.clone(), config.http.clone());
        let served = bespeak_http::serve(listener, router, config.http.request_timeout, stop.clone());
        let connections = tokio::spawn(served);
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

/// Serves until SIGINT or SIGTERM.
pub(crate) async fn serve(output: Output, values: Values) -> Result<ExitCode, Failure> {
    let mut config = Config::parse(&values)?;
    if output.is_json() {
        config.log_format = LogFormat::Json;
    }
    start_telemetry(&config).map_err(|error| Failure::usage(error.to_string()))?;
    let server = Server::start(&config).await?;
    tracing::info!(
        address = %server.address,
        database = %shown_url(&values),
        strategy = %config.strategy,
        "listening on http://{}, documentation at /docs", server.address
    );
    stop_signal().await?;
    tracing::info!("stopping: answering requests in flight");
    server.stop().await;
    telemetry::stop_spans().await;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// The URL of the database without its password.
fn shown_url(values: &Values) -> String {
    bespeak::config::SETTINGS
        .iter()
        .find(|setting| setting.name == "BESPEAK_DATABASE_URL")
        .map(|setting| values.shown(setting).0)
        .unwrap_or_default()
}

/// Waits for SIGINT or SIGTERM.
async fn stop_signal() -> Result<(), Failure> {
    let failed = |error| Failure::caused("signals cannot be received", &error);
    let mut terminate = signal::unix::signal(signal::unix::SignalKind::terminate()).map_err(failed)?;
    tokio::select! {
        interrupted = signal::ctrl_c() => interrupted.map_err(failed),
        _ = terminate.recv() => Ok(()),
    }
}
