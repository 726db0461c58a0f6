//! The failure of a command: its message, its exit code, and the problem details of the server if it has any.

use std::{error::Error, io::Write, process::ExitCode};

use bespeak::{
    app::{EventPipelineError, StartError},
    config::{Config, ConfigError},
    store::StoreError,
};

/// The failure of a command, reported in one line.
#[derive(Debug)]
pub struct Failure {
    message: String,
    code: u8,
    problem: Option<serde_json::Value>,
}

impl Failure {
    /// A refusal or an error: exit code 1.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1, problem: None }
    }

    /// The command line or a setting is wrong: exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 2, problem: None }
    }

    /// What failed, followed by the error and its causes: exit code 1.
    pub fn caused(failed: impl Into<String>, error: &dyn Error) -> Self {
        let mut message = failed.into();
        let mut cause = Some(error);
        while let Some(error) = cause {
            let text = error.to_string();
            // Some errors repeat their source in their own text; it is not printed twice.
            if !message.ends_with(&text) {
                message = format!("{message}: {text}");
            }
            cause = error.source();
        }
        Self::new(message)
    }

    /// The message, without the name of the program.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The slug of the server's problem, if the server refused the request.
    pub fn slug(&self) -> Option<&str> {
        self.problem.as_ref()?["type"].as_str()
    }

    /// The same failure, with a note in parentheses about what was done before it.
    #[must_use]
    pub fn after(mut self, done: &str) -> Self {
        self.message = format!("{} ({done})", self.message);
        self
    }

    /// A server's refusal, with its problem details: exit code 1.
    pub fn refused(message: String, problem: serde_json::Value) -> Self {
        Self { message, code: 1, problem: Some(problem) }
    }

    /// The configured database cannot be opened: exit code 2. The message never contains a password.
    pub fn database(config: &Config, error: &StoreError) -> Self {
        let shown = config.database.to_string();
        Self { code: 2, ..Self::caused(format!("BESPEAK_DATABASE_URL={shown:?} cannot be opened"), error) }
    }

    /// The asynchronous runtime cannot be started.
    pub fn runtime(error: std::io::Error) -> Self {
        Self::caused("the runtime cannot be started", &error)
    }

    /// Prints the failure on standard error, or as a JSON object on standard output, with the fields of the server's
    /// problem details. Returns the exit code.
    pub fn report(self, json: bool) -> ExitCode {
        if json {
            let problem = self.problem.unwrap_or_else(|| serde_json::json!({"detail": self.message}));
            // If standard output is closed, the exit code is all that is left to report.
            let _ = writeln!(std::io::stdout().lock(), "{problem:#}");
        } else {
            eprintln!("bespeak: {}", self.message);
        }
        ExitCode::from(self.code)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<EventPipelineError> for Failure {
    fn from(error: EventPipelineError) -> Self {
        Self::usage(format!("BESPEAK_EVENTS_URL: {error}"))
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Events(error) => error.into(),
            StartError::Store(error) => Self::caused("webhooks cannot be started", &error),
            StartError::Webhooks(_) => Self::usage(error.to_string()),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::caused("the database cannot be used", &error)
    }
}
