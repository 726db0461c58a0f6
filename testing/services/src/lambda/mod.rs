//! Lambda functions as processes, and the Runtime API that they get their invocations from.
//!
//! Never: an event source; what a function is invoked with is its caller's. Source:
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>. Next: `runtime_api.rs`.

mod runtime_api;

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::ServiceError;
use runtime_api::RuntimeApi;
pub use runtime_api::{Failure, Invocation};

/// How long a frozen or a slow function is waited for past its deadline.
const PATIENCE: Duration = Duration::from_secs(30);

/// An environment of a function: a process that is invoked, frozen and thawed; killed when dropped.
pub struct Function {
    child: Child,
    api: RuntimeApi,
    log: Arc<Mutex<Vec<String>>>,
}

impl Function {
    /// Starts the program of a function, with nothing in its environment but this and what Lambda sets. It is not waited
    /// for: the first invocation meets a cold start.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn start(program: &Path, settings: &[(&str, &str)]) -> Result<Self, ServiceError> {
        let api = RuntimeApi::start().await.map_err(ServiceError::io("listening for a function"))?;
        let name = program.file_name().unwrap_or_default();
        let mut child = Command::new(program)
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap_or_default())
            .env("AWS_LAMBDA_RUNTIME_API", api.address().to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", name)
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/test")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "test")
            .env("AWS_REGION", "eu-central-1")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(ServiceError::io(format!("starting {}", program.display())))?;
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        if let Some(stderr) = child.stderr.take() {
            let lines = log.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                }
            });
        }
        Ok(Self { child, api, log })
    }

    /// Invokes it with an event that it has `time` for, and waits.
    ///
    /// # Errors
    /// It failed, ended, or was not done in time.
    pub async fn invoke(&self, event: impl Into<Vec<u8>>, time: Duration) -> Result<Vec<u8>, Failure> {
        let invocation = self.begin(event, time);
        self.end(invocation, time).await
    }

    /// Invokes it, and does not wait.
    pub fn begin(&self, event: impl Into<Vec<u8>>, time: Duration) -> Invocation {
        self.api.invoke(event.into(), time)
    }

    /// Waits for an invocation that had `time`.
    ///
    /// # Errors
    /// As of [`Self::invoke`].
    pub async fn end(&self, invocation: Invocation, time: Duration) -> Result<Vec<u8>, Failure> {
        match tokio::time::timeout(time + PATIENCE, invocation.ended()).await {
            Ok(ended) => ended,
            Err(_elapsed) => Err(Failure {
                kind: "Test.TimedOut".to_owned(),
                message: format!("no answer; it said: {:?}", self.log()),
            }),
        }
    }

    /// Why it could not be initialised, if it said so.
    pub fn init_failure(&self) -> Option<Failure> {
        self.api.init_failure()
    }

    /// What it has written to its log.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory, in bytes; 0 where this system does not say.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }

    /// Freezes it (SIGSTOP), as Lambda does between invocations.
    ///
    /// # Errors
    /// It is gone.
    pub fn freeze(&self) -> Result<(), ServiceError> {
        self.signal("STOP")
    }

    /// Thaws it (SIGCONT).
    ///
    /// # Errors
    /// It is gone.
    pub fn thaw(&self) -> Result<(), ServiceError> {
        self.signal("CONT")
    }

    fn signal(&self, name: &str) -> Result<(), ServiceError> {
        let sent = Command::new("kill")
            .args(["-s", name, &self.pid().to_string()])
            .status()
            .map_err(ServiceError::io("running kill"))?;
        if sent.success() {
            return Ok(());
        }
        let log = self.log().join("\n");
        Err(ServiceError::NotStarted { command: format!("kill -s {name} {}", self.pid()), log })
    }

    /// Waits until it has ended by itself; whether it has.
    pub async fn ends_within(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        while Instant::now() < deadline {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return true;
            }
            ticks.tick().await;
        }
        false
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
