//! URLs that may contain a password, and their display without it.

use std::fmt;

/// Hides the password of a URL, and the query of an `http` or `https` URL, which may be a capability; returns other
/// text unchanged.
pub fn without_password(text: &str) -> String {
    let text = without_password_only(text);
    match (text.split_once('?'), text.starts_with("http")) {
        (Some((before, _)), true) => format!("{before}?***"),
        _ => text,
    }
}

fn without_password_only(text: &str) -> String {
    match url::Url::parse(text) {
        Ok(mut url) if url.password().is_some() => {
            // Cannot fail for a URL that has a password.
            let _ = url.set_password(Some("***"));
            url.to_string()
        }
        // A password with unescaped characters makes the text an invalid URL, or a URL with another host.
        _ => match (text.find("://"), text.rfind('@')) {
            (Some(scheme), Some(at)) if scheme + 3 <= at => {
                format!("{}***{}", &text[..scheme + 3], &text[at..])
            }
            _ => text.to_owned(),
        },
    }
}

/// A URL that may contain a password. It dereferences to the whole text, for clients that connect; `Debug` hides the
/// password.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// Wraps a URL without checking it.
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
