//! Why a command ends without having done its job, and with which exit code.

use std::{error::Error, io::Write, process::ExitCode};

use bespeak::{
    app::{EventsError, StartError},
    config::{Config, ConfigError},
    store::StoreError,
};

/// A failure, told in one line on standard error.
#[derive(Debug)]
pub struct Failure {
    message: String,
    code: u8,
    problem: Option<serde_json::Value>,
}

impl Failure {
    /// Something was refused or is wrong: exit code 1.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1, problem: None }
    }

    /// The command line or a setting is wrong: exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 2, problem: None }
    }

    /// An error and what caused it, after what was tried.
    pub fn caused(tried: impl Into<String>, error: &dyn Error) -> Self {
        let mut message = tried.into();
        let mut cause = Some(error);
        while let Some(error) = cause {
            let text = error.to_string();
            // Some errors repeat their source in their own text.
            if !message.ends_with(&text) {
                message = format!("{message}: {text}");
            }
            cause = error.source();
        }
        Self::new(message)
    }

    /// What it says.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same failure, with what was done before it.
    pub fn after(mut self, done: &str) -> Self {
        self.message = format!("{} ({done})", self.message);
        self
    }

    /// What a server refused: told with its problem details.
    pub fn refused(message: String, problem: serde_json::Value) -> Self {
        Self { message, code: 1, problem: Some(problem) }
    }

    /// The database that the settings name cannot be opened.
    pub fn database(config: &Config, error: &StoreError) -> Self {
        let shown = config.database.to_string();
        Self { code: 2, ..Self::caused(format!("BESPEAK_DATABASE_URL={shown:?} cannot be opened"), error) }
    }

    pub fn runtime(error: std::io::Error) -> Self {
        Self::caused("the runtime cannot be started", &error)
    }

    /// Says it on standard error, or as JSON on standard output; there as problem details, like the server's.
    pub fn report(self, json: bool) -> ExitCode {
        if json {
            let problem = self.problem.unwrap_or_else(|| serde_json::json!({"detail": self.message}));
            // Where standard output is closed, the exit code still tells.
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

impl From<EventsError> for Failure {
    fn from(error: EventsError) -> Self {
        Self::usage(format!("BESPEAK_EVENTS_URL: {error}"))
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Events(error) => error.into(),
            StartError::Store(error) => Self::caused("webhooks cannot be started", &error),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::caused("the database cannot be used", &error)
    }
}
