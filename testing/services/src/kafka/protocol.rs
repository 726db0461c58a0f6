//! One question in Kafka's protocol: which cluster a broker belongs to, and where its clients are told to go.
//!
//! Never: a record. Layout: Metadata, version 2, <https://kafka.apache.org/protocol#The_Messages_Metadata>.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const METADATA: i16 = 3;
/// The first that tells the cluster's id. Brokers answer it even where they have given up the first versions of others.
const VERSION: i16 = 2;
/// Whoever answers more than this speaks something else.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What a broker knows of its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cluster {
    pub(super) id: String,
    /// The addresses that clients connect to, such as `127.0.0.1:9092`.
    pub(super) brokers: Vec<String>,
}

/// Asks a broker. One that has opened its port but cannot serve clients yet is an error.
pub(super) async fn cluster(address: SocketAddr) -> io::Result<Cluster> {
    // No topics, which is not all topics: -1.
    let answer = ask(address, METADATA, VERSION, &0_i32.to_be_bytes()).await?;
    let cluster = parse(&answer).await?;
    if cluster.brokers.is_empty() {
        return Err(io::Error::other("no broker of the cluster is ready"));
    }
    Ok(cluster)
}

/// Sends one request, and returns what answers it after the header. Versions are those before tagged fields.
pub(super) async fn ask(address: SocketAddr, api: i16, version: i16, body: &[u8]) -> io::Result<Vec<u8>> {
    // A broker that is starting, or frozen, answers late or never; whoever asks, asks again.
    timeout(Duration::from_secs(2), ask_patiently(address, api, version, body)).await?
}

async fn ask_patiently(address: SocketAddr, api: i16, version: i16, body: &[u8]) -> io::Result<Vec<u8>> {
    const CORRELATION: i32 = 0x6265_7370;
    const NO_CLIENT_ID: i16 = -1;
    let mut request = Vec::new();
    request.extend(api.to_be_bytes());
    request.extend(version.to_be_bytes());
    request.extend(CORRELATION.to_be_bytes());
    request.extend(NO_CLIENT_ID.to_be_bytes());
    request.extend(body);
    let mut stream = TcpStream::connect(address).await?;
    stream.write_i32(i32::try_from(request.len()).map_err(io::Error::other)?).await?;
    stream.write_all(&request).await?;
    let length = usize::try_from(stream.read_i32().await?).unwrap_or(usize::MAX);
    let correlation = stream.read_i32().await?;
    if correlation != CORRELATION || !(4..ANSWER_BYTES_MAX).contains(&length) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not the answer of a Kafka broker"));
    }
    let mut answer = vec![0; length - 4];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

async fn parse(mut answer: &[u8]) -> io::Result<Cluster> {
    let mut brokers = Vec::new();
    for _ in 0..answer.read_i32().await? {
        let _node = answer.read_i32().await?;
        let host = text(&mut answer).await?;
        let port = answer.read_i32().await?;
        let _rack = text(&mut answer).await?;
        brokers.push(format!("{host}:{port}"));
    }
    let id = text(&mut answer).await?;
    Ok(Cluster { id, brokers })
}

/// A string, empty if it is null.
async fn text(answer: &mut &[u8]) -> io::Result<String> {
    let length = usize::try_from(answer.read_i16().await?).unwrap_or(0);
    let mut bytes = vec![0; length];
    answer.read_exact(&mut bytes).await?;
    String::from_utf8(bytes).map_err(io::Error::other)
}
