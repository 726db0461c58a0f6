//! Sends one request of Kafka's protocol, Metadata, to learn a broker's cluster and its advertised addresses.
//!
//! Never: a record. Layout: Metadata, version 2, <https://kafka.apache.org/protocol#The_Messages_Metadata>.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const METADATA: i16 = 3;
/// The first version whose response contains the cluster id. Brokers still support it, although they have
/// dropped the first versions of other requests.
const VERSION: i16 = 2;
/// A longer response is not Kafka's protocol.
const RESPONSE_BYTES_MAX: usize = 1 << 20;

/// A cluster, as one of its brokers describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cluster {
    pub(super) id: String,
    /// The advertised addresses, such as `127.0.0.1:9092`.
    pub(super) brokers: Vec<String>,
}

/// Reads the cluster of a broker. A broker that has opened its port but cannot serve clients yet is an error.
pub(super) async fn cluster(address: SocketAddr) -> io::Result<Cluster> {
    // An array of 0 topics requests none; -1 would request all.
    let response = request(address, METADATA, VERSION, &0_i32.to_be_bytes()).await?;
    let cluster = parse(&response).await?;
    if cluster.brokers.is_empty() {
        return Err(io::Error::other("no broker of the cluster is ready"));
    }
    Ok(cluster)
}

/// Sends one request and returns the response without its header. Only versions without tagged fields are supported.
pub(super) async fn request(address: SocketAddr, api: i16, version: i16, body: &[u8]) -> io::Result<Vec<u8>> {
    // A starting or frozen broker may answer late or not at all; callers retry.
    timeout(Duration::from_secs(2), exchange(address, api, version, body)).await?
}

async fn exchange(address: SocketAddr, api: i16, version: i16, body: &[u8]) -> io::Result<Vec<u8>> {
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
    if correlation != CORRELATION || !(4..RESPONSE_BYTES_MAX).contains(&length) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not the response of a Kafka broker"));
    }
    let mut response = vec![0; length - 4];
    stream.read_exact(&mut response).await?;
    Ok(response)
}

async fn parse(mut response: &[u8]) -> io::Result<Cluster> {
    let mut brokers = Vec::new();
    for _ in 0..response.read_i32().await? {
        let _node = response.read_i32().await?;
        let host = text(&mut response).await?;
        let port = response.read_i32().await?;
        let _rack = text(&mut response).await?;
        brokers.push(format!("{host}:{port}"));
    }
    let id = text(&mut response).await?;
    Ok(Cluster { id, brokers })
}

/// Reads a string; null is read as an empty string.
async fn text(response: &mut &[u8]) -> io::Result<String> {
    let length = usize::try_from(response.read_i16().await?).unwrap_or(0);
    let mut bytes = vec![0; length];
    response.read_exact(&mut bytes).await?;
    String::from_utf8(bytes).map_err(io::Error::other)
}
