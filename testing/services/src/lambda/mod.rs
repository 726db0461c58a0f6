//! Runs Lambda functions as processes and serves the Runtime API from which they get their invocations.
//!
//! Never: an event source; callers supply the events. Next: `runtime_api.rs`.
//! Source: <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>.

mod runtime_api;

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::ServiceError;
use runtime_api::RuntimeApi;
pub use runtime_api::{Failure, Invocation};

/// The time that a caller waits for a frozen or slow function after its deadline.
const GRACE: Duration = Duration::from_secs(30);

/// An execution environment of a function: a process that can be invoked, frozen and thawed. It is killed when dropped.
pub struct Function {
    child: Child,
    api: RuntimeApi,
    log: Arc<Mutex<Vec<String>>>,
}

impl Function {
    /// Starts the program of a function. Its environment contains only `settings` and the variables that
    /// Lambda sets. This does not wait for the function, so the first invocation is a cold start.
    ///
    /// # Errors
    /// The program cannot be started.
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

    /// Invokes the function with an event and `time` until its deadline, and waits for the result.
    ///
    /// # Errors
    /// The function failed, or did not respond in time.
    pub async fn invoke(&self, event: impl Into<Vec<u8>>, time: Duration) -> Result<Vec<u8>, Failure> {
        let invocation = self.begin(event, time);
        self.end(invocation, time).await
    }

    /// Invokes the function without waiting.
    pub fn begin(&self, event: impl Into<Vec<u8>>, time: Duration) -> Invocation {
        self.api.invoke(event.into(), time)
    }

    /// Waits for the result of an invocation that had `time`.
    ///
    /// # Errors
    /// As of [`Self::invoke`].
    pub async fn end(&self, invocation: Invocation, time: Duration) -> Result<Vec<u8>, Failure> {
        match tokio::time::timeout(time + GRACE, invocation.result()).await {
            Ok(result) => result,
            Err(_elapsed) => Err(Failure {
                kind: "Test.TimedOut".to_owned(),
                message: format!("the function did not respond; its log: {:?}", self.log()),
            }),
        }
    }

    /// The lines of the function's log.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The resident memory in bytes; 0 if the system does not report it.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }

    /// Freezes the function (SIGSTOP), as Lambda does between invocations.
    ///
    /// # Errors
    /// The process has ended.
    pub fn freeze(&self) -> Result<(), ServiceError> {
        self.signal("STOP")
    }

    /// Thaws the function (SIGCONT).
    ///
    /// # Errors
    /// The process has ended.
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
}

impl Drop for Function {
    fn drop(&mut self) {
        // It fails if the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
