//! Sends one command of Redis's protocol, INFO, to learn a server's product, version and process id.
//!
//! Never: access to a key. Layout: RESP, <https://redis.io/docs/latest/develop/reference/protocol-spec/>.

use std::{borrow::Cow, io, net::SocketAddr, time::Duration};

use percent_encoding::percent_decode_str;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};
use url::Url;

/// A longer response is not Redis's protocol.
const RESPONSE_BYTES_MAX: usize = 1 << 20;

/// The section "server" of a server's INFO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Info {
    /// The product: `Redis` or `Valkey`.
    pub(super) name: &'static str,
    /// The version, such as `7.0.15`.
    pub(super) version: String,
    pub(super) pid: u32,
}

/// Reads a server's INFO, after a login with the URL's password. A server that is still loading its data is an error.
pub(super) async fn info(address: SocketAddr, login: Option<&Url>) -> io::Result<Info> {
    // A starting or frozen server may answer late or not at all; callers retry.
    let response = async {
        let mut stream = BufReader::new(TcpStream::connect(address).await?);
        if let Some(words) = login.and_then(auth_command) {
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            send(&mut stream, &words).await?;
        }
        // All sections: one of them says whether the server is still loading its data, which keeps it from any other
        // command.
        send(&mut stream, &["INFO"]).await
    };
    parse(&timeout(Duration::from_secs(2), response).await??)
}

/// The command that logs in, if the URL has a password.
fn auth_command(url: &Url) -> Option<Vec<String>> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().ok().map(Cow::into_owned);
    let password = decoded(url.password()?)?;
    let user = decoded(url.username()).filter(|user| !user.is_empty());
    Some(["AUTH".to_owned()].into_iter().chain(user).chain([password]).collect())
}

/// Sends one command and returns its response.
pub(super) async fn send(stream: &mut BufReader<TcpStream>, words: &[&str]) -> io::Result<String> {
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(request.as_bytes()).await?;
    let mut line = String::new();
    (&mut *stream).take(RESPONSE_BYTES_MAX as u64).read_line(&mut line).await?;
    let line = line.trim_end();
    match (line.get(..1), line.get(1..)) {
        (Some("+" | ":"), Some(value)) => Ok(value.to_owned()),
        (Some("-"), Some(error)) if error.starts_with("LOADING") => Err(io::Error::other(error.to_owned())),
        (Some("-"), Some(error)) => Err(io::Error::new(io::ErrorKind::PermissionDenied, error.to_owned())),
        (Some("$"), Some(length)) => {
            let length = length.parse::<usize>().map_err(io::Error::other)?;
            if length > RESPONSE_BYTES_MAX {
                return Err(not_redis());
            }
            let mut bytes = vec![0; length + 2];
            stream.read_exact(&mut bytes).await?;
            bytes.truncate(length);
            String::from_utf8(bytes).map_err(io::Error::other)
        }
        _ => Err(not_redis()),
    }
}

fn parse(text: &str) -> io::Result<Info> {
    let value =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
    if value("loading").is_some_and(|loading| loading != "0") {
        return Err(io::Error::other("the server is still loading its data"));
    }
    let valkey = value("valkey_version").map(|version| ("Valkey", version));
    let (name, version) =
        valkey.or_else(|| Some(("Redis", value("redis_version")?))).ok_or_else(not_redis)?;
    let pid = value("process_id").and_then(|pid| pid.parse().ok()).ok_or_else(not_redis)?;
    Ok(Info { name, version: version.to_owned(), pid })
}

fn not_redis() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not the response of a Redis server")
}
