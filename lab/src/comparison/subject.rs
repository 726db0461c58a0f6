//! A server under test: this program again, as a process of its own, so that it can be frozen and costs no other's time.
//!
//! Never: a server that outlives the lab. It ends when its standard input does; and where it is frozen just then, the system
//! wakes and ends it, because it leads a process group that nobody is left to look after.

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

const STARTS_WITHIN: Duration = Duration::from_secs(60);
const STOPS_WITHIN: Duration = Duration::from_secs(10);

/// A server under test; killed when dropped.
pub(super) struct Subject {
    process: Killed,
    pub(super) target: Target,
}

/// A process that is killed when this is dropped, also while nobody knows yet where it serves.
struct Killed(Child);

impl Subject {
    /// Starts one on a free port, on an empty database or one that another of them has made its own.
    pub(super) async fn start(strategy: Strategy, settings: &[(&str, String)]) -> Result<Self, Failure> {
        let failed = |error| Failure::caused("a server for the lab cannot be started", &error);
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            // What is compared is compared with the settings' defaults.
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
            // Ctrl-C is for the lab, which then ends this.
            .process_group(0);
        let mut process = Killed(command.spawn().map_err(failed)?);
        let said = process.0.stdout.take();
        let first_line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            // What cannot be read is a server that ended, which has said why on standard error.
            let _ = said.map(|said| BufReader::new(said).read_line(&mut line));
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

    /// `kill -STOP`: it does nothing more until [`Subject::thaw`].
    pub(super) fn freeze(&self) -> Result<(), Failure> {
        self.signal("STOP")
    }

    /// `kill -CONT`: it goes on where it was.
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

    /// The sum of a counter of its own, all labels together; 0 where it was never counted.
    pub(super) async fn metric(&self, name: &str) -> Result<f64, Failure> {
        let asked = self.connect().await?.send(Method::GET, "/metrics", &[], Bytes::new()).await;
        let answer = asked.map_err(|error| Failure::caused("the metrics cannot be read", &error))?;
        let text = String::from_utf8_lossy(&answer.body);
        let lines = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// How often a command had to wait for a distributed lock.
    pub(super) async fn waits_for_distributed_locks(&self) -> Result<f64, Failure> {
        self.metric("bespeak_lock_waits_total").await
    }

    /// How many distributed locks ended before it was done with what they were for.
    pub(super) async fn locks_lost(&self) -> Result<u64, Failure> {
        let lost = self.metric("bespeak_lock_lost_total").await?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
        Ok(lost as u64)
    }

    /// Lets it finish what it accepted, and end.
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
        // It may have ended already; there is nothing more to do about it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Serves until standard input ends; says where in one line.
pub(crate) async fn serve(output: Output, args: SubjectArgs) -> Result<ExitCode, Failure> {
    let config = Config::parse(&Values::from_environment())?.with_strategy(args.strategy);
    telemetry::start_logs(&config.log, config.log_format)
        .map_err(|error| Failure::usage(format!("BESPEAK_LOG={:?} is not valid: {error}", config.log)))?;
    let server = Server::start(&config).await?;
    output.print(&format!("http://{}", server.address), || format!("http://{}", server.address))?;
    let hung_up = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    // However its input ends, so does this.
    let _ = hung_up.await;
    server.stop().await;
    Ok(ExitCode::SUCCESS)
}
