//! What a Redis node calls itself. One question in its protocol's plainest form
//! (<https://redis.io/docs/latest/develop/reference/protocol-spec/>, "inline commands").
//!
//! Never: a key. What the strategies do with Redis is `shared/src/lock/`'s.

use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const PATIENCE: Duration = Duration::from_secs(5);
/// More than a node says of its server.
const ANSWER_MAX: usize = 64 << 10;

/// Such as `Redis 7.0.15`; `None` where it cannot be asked like this, as over TLS.
pub(super) async fn version(url: &str) -> Option<String> {
    let url = url::Url::parse(url).ok().filter(|url| url.scheme() == "redis")?;
    tokio::time::timeout(PATIENCE, ask(&url)).await.ok()?
}

async fn ask(url: &url::Url) -> Option<String> {
    let mut node = TcpStream::connect((url.host_str()?, url.port().unwrap_or(6379))).await.ok()?;
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    if let Some(password) = url.password() {
        let user = if url.username().is_empty() { "default".to_owned() } else { decoded(url.username()) };
        let words = ["AUTH", &user, &decoded(password)].map(|word| format!("${}\r\n{word}\r\n", word.len()));
        node.write_all(format!("*3\r\n{}", words.concat()).as_bytes()).await.ok()?;
    }
    node.write_all(b"INFO server\r\nQUIT\r\n").await.ok()?;
    let mut said = Vec::new();
    node.take(ANSWER_MAX as u64).read_to_end(&mut said).await.ok()?;
    let said = String::from_utf8_lossy(&said).into_owned();
    let field = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let valkey = field("valkey_version:").map(|version| format!("Valkey {version}"));
    valkey.or_else(|| field("redis_version:").map(|version| format!("Redis {version}")))
}
