//! URLs that may hold a password, and how they are shown.

use std::fmt;

/// A URL with its password hidden; other text as it is.
pub fn without_password(text: &str) -> String {
    match url::Url::parse(text) {
        Ok(mut url) if url.password().is_some() => {
            // A URL that has a password can have another.
            let _ = url.set_password(Some("***"));
            url.to_string()
        }
        // A password with characters that should have been escaped makes it no URL, or one of another host.
        _ => match (text.find("://"), text.rfind('@')) {
            (Some(scheme), Some(at)) if scheme + 3 <= at => {
                format!("{}***{}", &text[..scheme + 3], &text[at..])
            }
            _ => text.to_owned(),
        },
    }
}

/// A URL that may hold a password. Clients connect with it; `Debug` hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// Wraps a URL; does not check it.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }
}

impl std::ops::Deref for SecretUrl {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_password(&self.0))
    }
}
