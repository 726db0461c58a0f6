//! The server under load, and a connection to it.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls_platform_verifier::ConfigVerifierExt;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};
use url::Url;

/// Why a target is not valid, or why a request got no response.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The text is not a base URL.
    #[error("{url:?} is not a base URL such as http://127.0.0.1:8080")]
    Url {
        /// The text.
        url: String,
    },
    /// TLS cannot be set up, or the server's certificate is not trusted.
    #[error("TLS failed")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The connection cannot be opened.
    #[error("cannot connect")]
    Connect(#[from] std::io::Error),
    /// The connection broke, or the server does not speak HTTP.
    #[error("the request failed")]
    Http(#[from] hyper::Error),
    /// The path or body cannot be sent.
    #[error("the request cannot be made")]
    Request(#[from] http::Error),
}

/// A server, by its base URL with `http` or `https` and any path prefix.
#[derive(Clone)]
pub struct Target {
    host: String,
    port: u16,
    host_header: HeaderValue,
    prefix: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// A response.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The response's headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// A keep-alive connection, for one request at a time.
#[derive(Debug)]
pub struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    host_header: HeaderValue,
    prefix: String,
}

impl Target {
    /// Parses a base URL.
    ///
    /// # Errors
    /// The text is not a base URL, or TLS cannot be set up for it.
    pub fn new(base: &str) -> Result<Self, TargetError> {
        let wrong = || TargetError::Url { url: base.to_owned() };
        let url = Url::parse(base).map_err(|_| wrong())?;
        let host = url.host_str().ok_or_else(wrong)?.trim_matches(['[', ']']).to_owned();
        let port = url.port_or_known_default().ok_or_else(wrong)?;
        let tls = match url.scheme() {
            "http" => None,
            "https" => {
                let config =
                    ClientConfig::with_platform_verifier().map_err(|error| TargetError::Tls(error.into()))?;
                let name =
                    ServerName::try_from(host.clone()).map_err(|error| TargetError::Tls(error.into()))?;
                Some((TlsConnector::from(Arc::new(config)), name))
            }
            _ => return Err(wrong()),
        };
        let authority = url.authority().rsplit('@').next().unwrap_or_default();
        let host_header = HeaderValue::from_str(authority).map_err(|_| wrong())?;
        Ok(Self { host, port, host_header, prefix: url.path().trim_end_matches('/').to_owned(), tls })
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// The server cannot be reached, or TLS fails.
    pub async fn connect(&self) -> Result<Connection, TargetError> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let sender = match &self.tls {
            None => handshake(stream).await?,
            Some((connector, name)) => {
                let stream = connector
                    .connect(name.clone(), stream)
                    .await
                    .map_err(|error| TargetError::Tls(error.into()))?;
                handshake(stream).await?
            }
        };
        Ok(Connection { sender, host_header: self.host_header.clone(), prefix: self.prefix.clone() })
    }
}

async fn handshake<S>(stream: S) -> Result<http1::SendRequest<Full<Bytes>>, TargetError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // The task ends with the connection. An error that breaks it reaches the sender.
    tokio::spawn(connection);
    Ok(sender)
}

impl Connection {
    /// Sends a request and reads the whole response. A body is JSON unless a header says otherwise.
    ///
    /// # Errors
    /// The connection broke and cannot be used again.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Result<Answer, TargetError> {
        let uri: Uri = if self.prefix.is_empty() {
            path.parse().map_err(http::Error::from)?
        } else {
            format!("{}{path}", self.prefix).parse().map_err(http::Error::from)?
        };
        let mut request = Request::builder().method(method).uri(uri).header(header::HOST, &self.host_header);
        let has_type = headers.iter().any(|(name, _)| *name == header::CONTENT_TYPE.as_str());
        if !body.is_empty() && !has_type {
            request = request.header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.sender.ready().await?;
        let (head, body) = self.sender.send_request(request.body(Full::new(body))?).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}
