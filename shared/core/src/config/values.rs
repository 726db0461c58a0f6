//! The text of the settings, the source of each value, and the error of an invalid value.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use super::{SETTINGS, Setting};
use crate::secret_url::without_password;

/// An invalid value, which stops the start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The name of the environment variable.
    pub name: Cow<'static, str>,
    /// Its value, with secrets hidden.
    pub value: String,
    /// What would be right, as the end of a sentence that starts with "must be".
    pub expected: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:?} is not valid: must be {}", self.name, self.value, self.expected)
    }
}

/// The source of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The table of settings.
    Default,
    /// An environment variable.
    Environment,
    /// The file that an environment variable names.
    File,
    /// A flag of the command.
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::Environment => "environment",
            Self::File => "file",
            Self::Flag => "flag",
        })
    }
}

/// The text of every setting, not parsed yet.
#[derive(Clone, Debug)]
pub struct Values {
    of_settings: BTreeMap<&'static str, (String, Source)>,
    /// The first file of a secret that cannot be used.
    unusable_file: Option<ConfigError>,
}

impl Values {
    /// Collects the settings. A value from `flag` wins over one from `environment`, which wins over the default. Both
    /// functions receive the name of the variable. The value of a secret setting may be in a file that the variable
    /// with `_FILE` at the end of its name names; the newline at the end of the file does not belong to the value.
    pub fn collect(
        flag: impl Fn(&str) -> Option<String>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let mut unusable_file = None;
        let mut value = |setting: &Setting| {
            let in_environment = environment(setting.name);
            let file = setting.file_variable().and_then(|name| Some((environment(&name)?, name)));
            if let Some(value) = flag(setting.name) {
                return (value, Source::Flag);
            }
            match (in_environment, file) {
                (Some(value), None) => (value, Source::Environment),
                (None, None) => (setting.default.to_owned(), Source::Default),
                (None, Some((path, name))) => match std::fs::read_to_string(&path) {
                    Ok(text) => (text.trim_end_matches(['\r', '\n']).to_owned(), Source::File),
                    Err(error) => {
                        let expected = format!("a file that can be read: {error}");
                        unusable_file.get_or_insert(ConfigError { name: name.into(), value: path, expected });
                        (String::new(), Source::File)
                    }
                },
                (Some(value), Some((path, name))) => {
                    let expected = format!("absent if {} is set, which has the same meaning", setting.name);
                    unusable_file.get_or_insert(ConfigError { name: name.into(), value: path, expected });
                    (value, Source::Environment)
                }
            }
        };
        let of_settings = SETTINGS.iter().map(|setting| (setting.name, value(setting))).collect();
        Self { of_settings, unusable_file }
    }

    /// Checks that every file of a secret could be used.
    pub(super) fn check_files(&self) -> Result<(), ConfigError> {
        self.unusable_file.clone().map_or(Ok(()), Err)
    }

    /// Collects the settings from the environment of the process.
    pub fn from_environment() -> Self {
        Self::collect(|_| None, |name| std::env::var(name).ok())
    }

    /// Collects the settings from the environment of the process. For settings that are absent there, `defaults` wins
    /// over the table.
    pub fn from_environment_or(defaults: &[(&str, &str)]) -> Self {
        let default =
            |name: &str| defaults.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned());
        Self::collect(|_| None, |name| std::env::var(name).ok().or_else(|| default(name)))
    }

    /// The text of a setting with its password hidden, and the source of the value.
    pub fn shown(&self, setting: &Setting) -> (String, Source) {
        let (value, source) =
            self.of_settings.get(setting.name).cloned().unwrap_or((String::new(), Source::Default));
        (setting.without_secret(&value), source)
    }

    pub(super) fn text(&self, name: &'static str) -> &str {
        debug_assert!(self.of_settings.contains_key(name), "{name} is not in the table of settings");
        self.of_settings.get(name).map_or("", |(value, _)| value)
    }

    pub(super) fn error(&self, name: &'static str, expected: impl Into<String>) -> ConfigError {
        let setting = SETTINGS.iter().find(|setting| setting.name == name && setting.is_secret());
        let value = self.text(name);
        let value = setting.map_or_else(|| without_password(value), |setting| setting.without_secret(value));
        ConfigError { name: name.into(), value, expected: expected.into() }
    }

    pub(super) fn number(&self, name: &'static str, min: u64, max: u64) -> Result<u64, ConfigError> {
        self.text(name)
            .parse()
            .ok()
            .filter(|number| (min..=max).contains(number))
            .ok_or_else(|| self.error(name, format!("a whole number from {min} to {max}")))
    }

    pub(super) fn size(&self, name: &'static str, min: u64, max: u64) -> Result<usize, ConfigError> {
        let number = self.number(name, min, max)?;
        usize::try_from(number).map_err(|_| self.error(name, "smaller on this machine"))
    }

    /// Parses a size; the value `auto` means `auto`.
    pub(super) fn size_or(
        &self,
        name: &'static str,
        auto: usize,
        min: u64,
        max: u64,
    ) -> Result<usize, ConfigError> {
        if self.text(name) == "auto" {
            return Ok(auto);
        }
        self.size(name, min, max).map_err(|_| {
            self.error(name, format!("auto or a whole number from {min} to {max} with this database"))
        })
    }

    pub(super) fn connections(&self, name: &'static str) -> Result<u32, ConfigError> {
        // In the range of a u32.
        self.number(name, 1, 1_000).map(|number| u32::try_from(number).unwrap_or(1))
    }

    pub(super) fn choice<T: Copy>(
        &self,
        name: &'static str,
        choices: &[(&str, T)],
    ) -> Result<T, ConfigError> {
        choices.iter().find(|(text, _)| *text == self.text(name)).map(|(_, value)| *value).ok_or_else(|| {
            self.error(name, choices.iter().map(|(text, _)| *text).collect::<Vec<_>>().join(" or "))
        })
    }
}

/// Returns the variables that start with `BESPEAK_` and are not settings, each with the setting that was probably
/// meant.
pub fn unknown_variables<'a>(names: impl Iterator<Item = &'a str>) -> Vec<(String, Option<&'static str>)> {
    names
        .filter(|name| name.starts_with("BESPEAK_"))
        // Variables of tests and of the lock lab.
        .filter(|name| !name.starts_with("BESPEAK_TEST_") && !name.starts_with("BESPEAK_LAB_"))
        .filter(|name| {
            SETTINGS
                .iter()
                .all(|setting| setting.name != *name && setting.file_variable().as_deref() != Some(name))
        })
        .map(|name| {
            let nearest = SETTINGS
                .iter()
                .map(|setting| (strsim::damerau_levenshtein(setting.name, name), setting.name))
                .min()
                .filter(|(distance, _)| *distance <= 3);
            (name.to_owned(), nearest.map(|(_, setting)| setting))
        })
        .collect()
}
