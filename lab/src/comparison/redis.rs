//! Reads the version of a Redis node, with the simplest form of its protocol
//! (<https://redis.io/docs/latest/develop/reference/protocol-spec/>, "inline commands").
//!
//! Never: a key. The locks themselves are in `shared/core/src/lock/`.

use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// How long a node may take to reply.
const PATIENCE: Duration = Duration::from_secs(5);
/// More than the length of a node's reply to `INFO server`.
const ANSWER_MAX: usize = 64 << 10;

/// The version of a node, such as `Redis 7.0.15`. `None` if the node cannot be reached in this way, as over TLS.
pub(super) async fn version(url: &str) -> Option<String> {
    let url = url::Url::parse(url).ok().filter(|url| url.scheme() == "redis")?;
    tokio::time::timeout(PATIENCE, ask(&url)).await.ok()?
}

/// Logs in if the URL has a password, and returns the version in the reply to `INFO server`.
async fn ask(url: &url::Url) -> Option<String> {
    let mut node = TcpStream::connect((url.host_str()?, url.port().unwrap_or(6379))).await.ok()?;
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    if let Some(password) = url.password() {
        let user = if url.username().is_empty() { "default".to_owned() } else { decoded(url.username()) };
        let words = ["AUTH", &user, &decoded(password)].map(|word| format!("${}\r\n{word}\r\n", word.len()));
        node.write_all(format!("*3\r\n{}", words.concat()).as_bytes()).await.ok()?;
    }
    node.write_all(b"INFO server\r\nQUIT\r\n").await.ok()?;
    let mut reply = Vec::new();
    node.take(ANSWER_MAX as u64).read_to_end(&mut reply).await.ok()?;
    let reply = String::from_utf8_lossy(&reply).into_owned();
    let field = |name: &str| reply.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let valkey = field("valkey_version:").map(|version| format!("Valkey {version}"));
    valkey.or_else(|| field("redis_version:").map(|version| format!("Redis {version}")))
}
