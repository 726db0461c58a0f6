//! The URL of the database, parsed once.

use std::{fmt, net::IpAddr};

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

impl DatabaseUrl {
    /// The host of a server whose certificate is not checked, so that anything between it and this process can read
    /// and change what is sent. `None` for a file, a socket, this machine, and the modes `VERIFY_CA` and
    /// `VERIFY_IDENTITY`.
    pub fn unverified_host(&self) -> Option<String> {
        let Self::Mysql(url) = self else { return None };
        let url = url::Url::parse(url).ok()?;
        let is_local = match url.host()? {
            url::Host::Domain(name) => {
                // The scheme is not one of the web, so the parser does not look for addresses in the name.
                name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            }
            url::Host::Ipv4(address) => address.is_loopback(),
            url::Host::Ipv6(address) => address.is_loopback(),
        };
        let verifies =
            |mode: &str| ["VERIFY_CA", "VERIFY_IDENTITY"].contains(&mode.to_ascii_uppercase().as_str());
        let is_safe = url.query_pairs().any(|(name, value)| match &*name {
            "ssl-mode" | "sslmode" => verifies(&value),
            "socket" => true,
            _ => false,
        });
        (!is_local && !is_safe).then(|| url.host_str().unwrap_or_default().to_owned())
    }
}

/// Shows the URL with its password hidden.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::secret_url::without_password(self.url()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_elsewhere_must_be_verified() {
        let host = |url: &str| DatabaseUrl::parse(url).unwrap().unverified_host();
        for safe in [
            "sqlite://books.db",
            "mysql://u:p@127.0.0.1:3306/books",
            "mysql://u:p@[::1]/books",
            "mysql://u:p@localhost/books",
            "mysql://u:p@db.example.com/books?ssl-mode=VERIFY_IDENTITY&ssl-ca=ca.pem",
            "mysql://u:p@db.example.com/books?ssl-mode=verify_ca",
            "mysql://u:p@db.example.com/books?socket=/run/mysqld.sock",
        ] {
            assert_eq!(host(safe), None, "{safe}");
        }
        for mode in ["", "?ssl-mode=REQUIRED", "?ssl-mode=PREFERRED", "?ssl-mode=DISABLED"] {
            let url = format!("mysql://u:p@db.example.com:3306/books{mode}");
            assert_eq!(host(&url).as_deref(), Some("db.example.com"), "{mode}");
        }
        assert_eq!(host("mysql://u:p@10.0.0.7/books").as_deref(), Some("10.0.0.7"));
    }
}
