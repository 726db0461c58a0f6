//! One question in Redis's protocol: what a server is, and which process.
//!
//! Never: a key. Layout: RESP, <https://redis.io/docs/latest/develop/reference/protocol-spec/>.

use std::{borrow::Cow, io, net::SocketAddr, time::Duration};

use percent_encoding::percent_decode_str;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};
use url::Url;

/// Whoever answers more than this speaks something else.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Info {
    /// `Redis` or `Valkey`.
    pub(super) name: &'static str,
    /// Such as `7.0.15`.
    pub(super) version: String,
    pub(super) pid: u32,
}

/// Asks a server, logged in as the URL says. One that still loads its data is an error.
pub(super) async fn info(address: SocketAddr, login: Option<&Url>) -> io::Result<Info> {
    // A server that is starting, or frozen, answers late or never; whoever asks, asks again.
    let ask = async {
        let mut stream = BufReader::new(TcpStream::connect(address).await?);
        if let Some(words) = login.and_then(auth) {
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            ask(&mut stream, &words).await?;
        }
        // Of all sections: one says whether it still loads its data, which keeps it from any command but this.
        ask(&mut stream, &["INFO"]).await
    };
    parse(&timeout(Duration::from_secs(2), ask).await??)
}

/// What logs in, if the URL has a password.
fn auth(url: &Url) -> Option<Vec<String>> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().ok().map(Cow::into_owned);
    let password = decoded(url.password()?)?;
    let user = decoded(url.username()).filter(|user| !user.is_empty());
    Some(["AUTH".to_owned()].into_iter().chain(user).chain([password]).collect())
}

/// Sends one command and returns what answers it.
pub(super) async fn ask(stream: &mut BufReader<TcpStream>, words: &[&str]) -> io::Result<String> {
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(request.as_bytes()).await?;
    let mut line = String::new();
    (&mut *stream).take(ANSWER_BYTES_MAX as u64).read_line(&mut line).await?;
    let line = line.trim_end();
    match (line.get(..1), line.get(1..)) {
        (Some("+" | ":"), Some(said)) => Ok(said.to_owned()),
        (Some("-"), Some(error)) if error.starts_with("LOADING") => Err(io::Error::other(error.to_owned())),
        (Some("-"), Some(error)) => Err(io::Error::new(io::ErrorKind::PermissionDenied, error.to_owned())),
        (Some("$"), Some(length)) => {
            let length = length.parse::<usize>().map_err(io::Error::other)?;
            if length > ANSWER_BYTES_MAX {
                return Err(stranger());
            }
            let mut bytes = vec![0; length + 2];
            stream.read_exact(&mut bytes).await?;
            bytes.truncate(length);
            String::from_utf8(bytes).map_err(io::Error::other)
        }
        _ => Err(stranger()),
    }
}

fn parse(text: &str) -> io::Result<Info> {
    let value =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
    if value("loading").is_some_and(|loading| loading != "0") {
        return Err(io::Error::other("it loads its data"));
    }
    let valkey = value("valkey_version").map(|version| ("Valkey", version));
    let (name, version) = valkey.or_else(|| Some(("Redis", value("redis_version")?))).ok_or_else(stranger)?;
    let pid = value("process_id").and_then(|pid| pid.parse().ok()).ok_or_else(stranger)?;
    Ok(Info { name, version: version.to_owned(), pid })
}

fn stranger() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not the answer of a Redis server")
}
