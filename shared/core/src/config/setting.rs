//! A setting: its name, its default, its meaning, and which part of its value is never shown.

use crate::secret_url::without_password;

/// The part of a value that is secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    /// No part.
    Public,
    /// The password of a URL, if it has one.
    Password,
    /// The path and the query of a URL, which may be a capability: only its origin is shown.
    Path,
    /// The whole value.
    Whole,
}

/// A setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The name of the environment variable.
    pub name: &'static str,
    /// The value if the setting is absent.
    pub default: &'static str,
    /// The meaning, the unit and the range, for users.
    pub help: &'static str,
    /// Which part of the value is secret, and never shown.
    pub secrecy: Secrecy,
    /// Whether `bespeak serve` has it as a flag; the other settings are for client commands.
    pub of_server: bool,
}

impl Setting {
    /// Whether a part of the value, or all of it, is secret.
    pub fn is_secret(&self) -> bool {
        self.secrecy != Secrecy::Public
    }

    /// The variable that may name a file with the value, if the value is secret: `BESPEAK_KAFKA_PASSWORD_FILE` for
    /// `BESPEAK_KAFKA_PASSWORD`.
    pub fn file_variable(&self) -> Option<String> {
        self.is_secret().then(|| format!("{}_FILE", self.name))
    }

    /// A value of this setting with its secret hidden.
    pub fn without_secret(&self, value: &str) -> String {
        match self.secrecy {
            _ if value.is_empty() => String::new(),
            Secrecy::Public => value.to_owned(),
            Secrecy::Password => without_password(value),
            Secrecy::Path => origin(value),
            Secrecy::Whole => "***".to_owned(),
        }
    }

    /// The flag of `bespeak serve`, without its dashes: the flag of `BESPEAK_LANE_QUEUE` is `lane-queue`.
    pub fn flag(&self) -> String {
        self.name.trim_start_matches("BESPEAK_").to_ascii_lowercase().replace('_', "-")
    }
}

/// The scheme and host of a URL; the rest is hidden.
fn origin(value: &str) -> String {
    match url::Url::parse(value).map(|url| url.origin()) {
        Ok(origin) if origin.is_tuple() => format!("{}/***", origin.ascii_serialization()),
        _ => "***".to_owned(),
    }
}

/// A setting of the server without a secret.
pub(super) const fn setting(name: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting { name, default, help, secrecy: Secrecy::Public, of_server: true }
}

/// A setting of the server with a secret.
pub(super) const fn secret(
    secrecy: Secrecy,
    name: &'static str,
    default: &'static str,
    help: &'static str,
) -> Setting {
    Setting { name, default, help, secrecy, of_server: true }
}
