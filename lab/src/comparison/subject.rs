//! A server under test: this program again in its own process, so that the server can be frozen and shares no threads
//! with the load generator.
//!
//! Never: a server that outlives the lab. It ends when its standard input is closed. If it is frozen at that time,
//! the kernel continues it and hangs it up, because it leads a process group that is orphaned and has a stopped
//! member.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use bespeak::{
    config::{Config, Values},
    dispatch::Strategy,
    telemetry,
};
use bespeak_lab::load::{Connection, Target};
use hyper::{Method, body::Bytes};

use super::args::SubjectArgs;
use bespeak_cli::{Failure, Output, Server};

/// How long a server may take until it prints its address.
const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// How long a server may take to stop before it is killed.
const STOPS_WITHIN: Duration = Duration::from_secs(10);

/// A server under test. It is killed when this value is dropped.
pub(super) struct Subject {
    process: Killed,
    pub(super) target: Target,
}

/// A child process that is killed when this value is dropped, also before it has printed its address.
struct Killed(Child);

impl Subject {
    /// Starts a server on a free port, with an empty database or one that another server under test has migrated.
    pub(super) async fn start(strategy: Strategy, settings: &[(&str, String)]) -> Result<Self, Failure> {
        let failed = |error| Failure::caused("a server for the lab cannot be started", &error);
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            // Strategies are compared with the defaults of all other settings.
            if name.to_string_lossy().starts_with("BESPEAK_") {
                command.env_remove(name);
            }
        }
        command
            .args(["lab-subject", strategy.as_str()])
            .env("BESPEAK_LISTEN", "127.0.0.1:0")
            .env("BESPEAK_LOG", "off")
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // In its own process group, it does not receive the terminal's Ctrl-C. The lab receives it and stops the
            // server.
            .process_group(0);
        let mut process = Killed(command.spawn().map_err(failed)?);
        let stdout = process.0.stdout.take();
        let first_line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            // If there is no line, the server has ended and has written why to standard error.
            let _ = stdout.map(|stdout| BufReader::new(stdout).read_line(&mut line));
            line
        });
        let url = tokio::time::timeout(STARTS_WITHIN, first_line).await;
        let url = url.ok().and_then(Result::ok).filter(|url| url.starts_with("http://"));
        let Some(url) = url else {
            return Err(Failure::new(format!("a server with the strategy {strategy} did not start")));
        };
        let target = Target::new(url.trim())
            .map_err(|error| Failure::caused("a server for the lab gave no address", &error))?;
        Ok(Self { process, target })
    }

    /// Freezes the process (SIGSTOP) until [`Subject::thaw`].
    pub(super) fn freeze(&self) -> Result<(), Failure> {
        self.signal("STOP")
    }

    /// Lets the process continue (SIGCONT).
    pub(super) fn thaw(&self) -> Result<(), Failure> {
        self.signal("CONT")
    }

    fn signal(&self, name: &str) -> Result<(), Failure> {
        let sent = Command::new("kill").args(["-s", name, &self.process.0.id().to_string()]).status();
        match sent {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Failure::new(format!("kill -{name} failed: {status}"))),
            Err(error) => Err(Failure::caused("kill cannot be run", &error)),
        }
    }

    pub(super) async fn connect(&self) -> Result<Connection, Failure> {
        self.target.connect().await.map_err(|error| Failure::caused("the server under test is gone", &error))
    }

    /// The sum of one of the server's counters over all labels; 0 if the server has not counted anything yet.
    pub(super) async fn metric(&self, name: &str) -> Result<f64, Failure> {
        let response = self.connect().await?.send(Method::GET, "/metrics", &[], Bytes::new()).await;
        let answer = response.map_err(|error| Failure::caused("the metrics cannot be read", &error))?;
        let text = String::from_utf8_lossy(&answer.body);
        let lines = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// How many commands had to wait for a distributed lock.
    pub(super) async fn waits_for_distributed_locks(&self) -> Result<f64, Failure> {
        self.metric("bespeak_lock_waits_total").await
    }

    /// How many distributed locks expired before the command that held them was finished.
    pub(super) async fn locks_lost(&self) -> Result<u64, Failure> {
        let lost = self.metric("bespeak_lock_lost_total").await?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
        Ok(lost as u64)
    }

    /// Lets the server finish accepted commands and end. A server that takes too long is killed.
    pub(super) async fn stop(mut self) {
        drop(self.process.0.stdin.take());
        let deadline = Instant::now() + STOPS_WITHIN;
        while matches!(self.process.0.try_wait(), Ok(None)) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        // Both fail if the process has already ended, which is what they are for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Serves until standard input is closed. Prints the server's URL in one line.
pub(crate) async fn serve(output: Output, args: SubjectArgs) -> Result<ExitCode, Failure> {
    let config = Config::parse(&Values::from_environment())?.with_strategy(args.strategy);
    telemetry::start_logs(&config.log, config.log_format)
        .map_err(|error| Failure::usage(format!("BESPEAK_LOG={:?} is not valid: {error}", config.log)))?;
    let server = Server::start(&config).await?;
    output.print(&format!("http://{}", server.address), || format!("http://{}", server.address))?;
    let input_closed =
        tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    // An error while reading ends the server like the end of the input.
    let _ = input_closed.await;
    server.stop().await;
    Ok(ExitCode::SUCCESS)
}
