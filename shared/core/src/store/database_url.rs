//! The URL of the database, parsed once.

use std::fmt;

use crate::secret_url::SecretUrl;

/// The URL of the database, by the back end that it selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// A file of the embedded database: `sqlite://PATH`.
    Sqlite(SecretUrl),
    /// A MySQL or MariaDB server: `mysql://USER:PASSWORD@HOST:PORT/DATABASE`.
    Mysql(SecretUrl),
}

/// The text is not the URL of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be {expected}")]
pub struct InvalidDatabaseUrl {
    /// What would be right.
    pub expected: &'static str,
}

impl DatabaseUrl {
    /// Parses a URL. Refuses databases in memory, which lose what was acknowledged (I4).
    ///
    /// # Errors
    /// The scheme is unknown, or the URL names no database or no file.
    pub fn parse(url: &str) -> Result<Self, InvalidDatabaseUrl> {
        let invalid = |expected| Err(InvalidDatabaseUrl { expected });
        if url.starts_with("mysql:") {
            let names_database = url::Url::parse(url)
                .is_ok_and(|url| url.has_host() && url.path().len() > 1 && !url.path()[1..].contains('/'));
            if names_database {
                return Ok(Self::Mysql(SecretUrl::new(url)));
            }
            return invalid("a URL that names a database, such as mysql://user:password@host:3306/bespeak");
        }
        let Some(rest) = url.strip_prefix("sqlite:") else {
            return invalid("a URL such as sqlite://bespeak.db or mysql://user:password@host:3306/bespeak");
        };
        let path = rest.strip_prefix("//").unwrap_or(rest);
        let path = path.split('?').next().unwrap_or(path);
        if path.is_empty() || path.starts_with(":memory:") || rest.contains("mode=memory") {
            return invalid(
                "the URL of a file, such as sqlite://bespeak.db: a database in memory loses acknowledged holds",
            );
        }
        Ok(Self::Sqlite(SecretUrl::new(url)))
    }

    /// The back end's name: the scheme of the URL, and the label `database` of the metrics.
    pub fn scheme(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Mysql(_) => "mysql",
        }
    }

    /// The URL, with its password.
    pub fn url(&self) -> &str {
        match self {
            Self::Sqlite(url) | Self::Mysql(url) => url,
        }
    }
}

/// Shows the URL with its password hidden.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::secret_url::without_password(self.url()))
    }
}
